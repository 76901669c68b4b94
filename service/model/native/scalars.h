// Numbers of the run dtype, one by one.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

struct bfloat16 {
  uint16_t bits;
};

inline float widen(float value) { return value; }

inline float widen(bfloat16 value) {
  uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

inline void narrow(float wide, float& value) { value = wide; }

inline void narrow(float wide, bfloat16& value) {
  uint32_t bits;
  std::memcpy(&bits, &wide, sizeof bits);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  value.bits = static_cast<uint16_t>(wide == wide ? rounded : 0x7fc0);
}

template <typename T>
inline float rounded(float wide) {
  T value;
  narrow(wide, value);
  return widen(value);
}

}  // namespace
