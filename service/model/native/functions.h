// Functions of vectors: plain arithmetic, to two units in the last place of float32.

#pragma once

#include "vectors.h"

namespace {

// e^x for x <= 0; zero below -87, where the result would not be normal.
// Range reduction by ln 2 in two parts and a polynomial of degree 5 (Cephes, expf).
inline Floats exp_negative(Floats x) {
  // A sum with 1.5 * 2^23 is rounded to a whole number, which is what its low bits say.
  const Floats shifted = x * 1.44269504088896341f + 12582912.0f;
  const Floats n = shifted - 12582912.0f;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Floats power = (Floats)(((Words)shifted + 127) << 23);
  return x < -87.0f ? Floats{} : p * power;
}

inline float exp_negative(float x) { return exp_negative(Floats{} + x)[0]; }

// Near zero a polynomial (Cephes, tanhf), since the quotient's numerator would lose digits.
inline Floats tanh(Floats x) {
  const Floats magnitude = x < 0 ? -x : x;
  const Floats e = exp_negative(-2 * magnitude);
  const Floats far = (1 - e) / (1 + e);
  const Floats z = x * x;
  Floats p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const Floats near = p * z * x + x;
  return magnitude < 0.625f ? near : x < 0 ? -far : far;
}

}  // namespace
