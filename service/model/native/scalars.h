// Numbers of the run dtype, and products of short vectors. Sums are float32.

#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

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

template <typename T>
inline float dot(const T* left, const T* right, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += widen(left[i]) * widen(right[i]);
  return sum;
}

template <typename T>
inline float weighted(const T* weights, const float* hidden, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += widen(weights[i]) * hidden[i];
  return sum;
}

// total += weight * values
template <typename T>
inline void accumulate(float* total, float weight, const T* values, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) total[i] += weight * widen(values[i]);
}

#if defined(__AVX512F__)
inline __m512 widen16(const bfloat16* values) {
  __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)values));
  return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

inline float weighted(const bfloat16* weights, const float* hidden, int64_t n) {
  __m512 sums = _mm512_setzero_ps();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    sums = _mm512_fmadd_ps(widen16(weights + i), _mm512_loadu_ps(hidden + i), sums);
  float sum = i ? _mm512_reduce_add_ps(sums) : 0;
  for (; i < n; i++) sum += widen(weights[i]) * hidden[i];
  return sum;
}

inline void accumulate(float* total, float weight, const bfloat16* values, int64_t n) {
  const __m512 scale = _mm512_set1_ps(weight);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(total + i,
                     _mm512_fmadd_ps(scale, widen16(values + i), _mm512_loadu_ps(total + i)));
  for (; i < n; i++) total[i] += weight * widen(values[i]);
}
#endif

#if defined(__AVX512BF16__)
inline float dot(const bfloat16* left, const bfloat16* right, int64_t n) {
  __m512 sums[4] = {};
  int64_t i = 0;
  auto step = [&](int k, int64_t at) {
    sums[k] = _mm512_dpbf16_ps(sums[k], (__m512bh)_mm512_loadu_si512(left + at),
                               (__m512bh)_mm512_loadu_si512(right + at));
  };
  for (; i + 128 <= n; i += 128)
    for (int k = 0; k < 4; k++) step(k, i + 32 * k);
  for (; i + 32 <= n; i += 32) step(0, i);
  float sum = _mm512_reduce_add_ps(
      _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
  for (; i < n; i++) sum += widen(left[i]) * widen(right[i]);
  return sum;
}
#endif

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
