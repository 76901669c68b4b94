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

// e^x for x <= 0, to about 1e-7 relative; plain arithmetic, so that a loop of it is vectorised.
// Range reduction by ln 2 in two parts and a polynomial of degree 5 (Cephes, expf).
inline float exp_negative(float x) {
  x = x < -87.0f ? -87.0f : x;
  float n = __builtin_rintf(x * 1.44269504088896341f);
  float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

}  // namespace
