// What a model computes element by element between its products, each in one pass: a norm, a gated
// activation, a rotation. They round where torch does, operation by operation, so they find the same
// bits, but for the last ones of an exponential in float32 and for numbers below 2^-126 where the
// processor rounds them to zero. The twins are elementwise_twin.py.

#pragma once

#include <omp.h>

#include "vectors.h"

namespace {

constexpr int64_t kSerialElements = 1 << 15;  // fewer are done before another thread has begun

// `work(row)` for all rows; several threads where there is enough to do.
template <typename Work>
inline void for_rows(int64_t rows, int64_t size, int num_threads, Work work) {
  if (num_threads == 1 || rows * size < kSerialElements) {
    for (int64_t row = 0; row < rows; row++) work(row);
    return;
  }
#pragma omp parallel for num_threads(num_threads) schedule(static)
  for (int64_t row = 0; row < rows; row++) work(row);
}

// `work(first element, number)` for the vectors of a row; the number is a constant for all but the
// last one.
template <typename Work>
inline void by_lanes(int64_t size, Work work) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) work(i, std::integral_constant<int64_t, kLanes>());
  if (i < size) work(i, size - i);
}

struct Norm {
  const void* weight;  // [size]
  int64_t size;
  float eps;
  int32_t rounds_first;  // the normed row is rounded before it is multiplied by the weight
  int32_t adds_one;      // to the weight
  int32_t num_threads;
};

template <typename V>
inline V square(V value) {
  return alone(value * value);
}

// In the order of torch's own sum, which adds in 32 columns, puts them away after every 16 rows and
// folds them by eights, whatever the processor.
template <typename T>
inline float sum_of_squares(const T* x, int64_t n) {
  constexpr int64_t kColumns = 32, kVectors = kColumns / kLanes, kRows = 16, kFold = 8;
  Floats away[kVectors] = {};
  int64_t i = 0;
  while (i + kColumns <= n) {
    Floats sums[kVectors] = {};
    for (int64_t row = 0; row < kRows && i + kColumns <= n; row++, i += kColumns)
      for (int64_t j = 0; j < kVectors; j++) sums[j] += square(load(x + i + j * kLanes));
    for (int64_t j = 0; j < kVectors; j++) away[j] += sums[j];
  }
  float columns[kColumns];
  for (int64_t j = 0; j < kVectors; j++) store(away[j], columns + j * kLanes);
  for (; i + kFold <= n; i += kFold)
    for (int64_t j = 0; j < kFold; j++) columns[j] += square(widen(x[i + j]));
  for (int64_t j = kFold; j < kColumns; j++) columns[j % kFold] += columns[j];
  float sum = 0;
  for (; i < n; i++) sum += square(widen(x[i]));
  for (int64_t j = 0; j < kFold; j++) sum += columns[j];
  return sum;
}

template <typename T>
inline void norm_row(const Norm& norm, const T* x, T* out) {
  const T* weight = static_cast<const T*>(norm.weight);
  const float one = norm.adds_one ? 1.0f : 0.0f;
  const bool rounds_first = norm.rounds_first;
  const float mean = sum_of_squares(x, norm.size) / static_cast<float>(norm.size);
  const float scale = 1.0f / __builtin_sqrtf(mean + norm.eps);
  by_lanes(norm.size, [=](int64_t i, auto n) {
    Floats values = load_some(x + i, n) * scale;
    if (rounds_first) values = rounded<T>(values);
    store_some(values * (load_some(weight + i, n) + one), out + i, n);
  });
}

// x / sqrt(mean(x^2) + eps) * weight
template <typename T>
void rms_norm(const Norm& norm, const T* x, T* out, int64_t rows) {
  const int64_t size = norm.size;
  for_rows(rows, size, norm.num_threads,
           [&](int64_t row) { norm_row(norm, x + row * size, out + row * size); });
}

// x / (1 + e^-x) to the last bit but one, for every x: range reduction by ln 2 in two parts and a
// polynomial of degree 6 (Shibata, SLEEF, expf), so that where products are added without rounding
// it is what torch computes.
inline Floats silu(Floats x) {
  // Beyond, the sum is 1 or infinite.
  const Floats within = -lesser(-lesser(x, Floats{} + 87.0f), Floats{} + 89.2f);
  // 1.5 * 2^23 + 126: what is added to it becomes an integer, in the bits of a float's exponent
  // when they are moved there. It is one less than the power of two, which may be more than a float
  // holds.
  const float shift = 12583038.0f;
  const Floats moved = alone(shift - within * 1.44269504088896341f), n = moved - shift;
  const Floats r = (within + n * 0.693145751953125f) + n * 1.428606765330187045e-06f;  // negative
  Floats p = r * -0.000198527617612853646278381f + 0.00139304355252534151077271f;
  p = p * -r + 0.00833336077630519866943359f;
  p = p * -r + 0.0416664853692054748535156f;
  p = p * -r + 0.166666671633720397949219f;
  p = p * -r + 0.5f;
  p = 1.0f + (r * r * p - r);
  return x / (1.0f + 2.0f * (p * (Floats)((Words)moved << 23)));
}

template <typename T>
inline void gate_row(const T* gate, const T* up, T* out, int64_t size) {
  by_lanes(size, [=](int64_t i, auto n) {
    const Floats values = rounded<T>(silu(load_some(gate + i, n)));
    store_some(values * load_some(up + i, n), out + i, n);
  });
}

// out [rows, size] = silu(gate) * up; rows of gate and up are `stride` apart.
template <typename T>
void gated(const T* gate, const T* up, T* out, int64_t rows, int64_t size, int64_t stride,
           int num_threads) {
  for_rows(rows, size, num_threads, [=](int64_t row) {
    gate_row(gate + row * stride, up + row * stride, out + row * size, size);
  });
}

struct Heads {
  const void* values;  // [rows, count, size], at the distances below
  void* out;           // the same, without gaps
  int64_t count, row_stride, head_stride;
};

struct Rotation {
  Heads heads[2];   // of queries and of keys
  const void* cos;  // [rows, size]
  const void* sin;
  int64_t rows, size;
  int32_t num_threads;
};

// x * cos + rotate_half(x) * sin of one head; the halves of x are the parts of complex numbers.
template <typename T>
inline void rotate(const T* x, const T* cos, const T* sin, T* out, int64_t half) {
  by_lanes(half, [=](int64_t i, auto n) {
    const int64_t j = half + i;
    const Floats real = load_some(x + i, n), imaginary = load_some(x + j, n);
    store_some(rounded<T>(real * load_some(cos + i, n)) -
                   rounded<T>(imaginary * load_some(sin + i, n)),
               out + i, n);
    store_some(rounded<T>(imaginary * load_some(cos + j, n)) +
                   rounded<T>(real * load_some(sin + j, n)),
               out + j, n);
  });
}

template <typename T>
void rotate_heads(const Rotation& call) {
  const T* cos = static_cast<const T*>(call.cos);
  const T* sin = static_cast<const T*>(call.sin);
  const int64_t size = call.size, all = call.heads[0].count + call.heads[1].count;
  for_rows(call.rows, all * size, call.num_threads, [&](int64_t row) {
    for (const Heads& heads : call.heads) {
      const T* values = static_cast<const T*>(heads.values) + row * heads.row_stride;
      T* out = static_cast<T*>(heads.out) + row * heads.count * size;
      for (int64_t head = 0; head < heads.count; head++)
        rotate(values + head * heads.head_stride, cos + row * size, sin + row * size,
               out + head * size, size / 2);
    }
  });
}

}  // namespace
