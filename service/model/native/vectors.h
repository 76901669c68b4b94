// Vectors as wide as the processor's registers. Sums are float32 whatever the run dtype.

#pragma once

#include <type_traits>

#include "scalars.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr bool kHasManyRegisters = kLanes == 16;

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef uint32_t Quad __attribute__((vector_size(16)));

inline Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

// Compilers make the general form out of parts of a register.
inline Words widened(Halves halves) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtepu16_epi32((__m256i)halves);
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu16_epi32((__m128i)halves);
#else
  return __builtin_convertvector(halves, Words);
#endif
}

// Of words that are no larger than a half.
inline Halves narrowed(Words words) {
#if defined(__AVX512F__)
  return (Halves)_mm512_cvtepi32_epi16((__m512i)words);
#elif defined(__AVX2__)
  const __m256i packed = _mm256_packus_epi32((__m256i)words, (__m256i)words);
  return (Halves)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#else
  return __builtin_convertvector(words, Halves);
#endif
}

inline Floats load(const bfloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return (Floats)(widened(halves) << 16);
}

inline void store(Floats values, float* to) { std::memcpy(to, &values, sizeof values); }

inline Halves narrowed(Floats values) {
#if defined(__AVX512BF16__)
  // As `narrow`, but that a NaN keeps its sign and what is below 2^-126 becomes zero.
  return (Halves)_mm512_cvtneps_pbh((__m512)values);
#else
  Words bits = (Words)values;
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // as `narrow`
  return narrowed(values == values ? bits : Words{} + 0x7fc0);
#endif
}

inline void store(Floats values, bfloat16* to) {
  const Halves halves = narrowed(values);
  std::memcpy(to, &halves, sizeof halves);
}

inline Floats lesser(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

// 0, 1, 2 and so on.
inline Floats lane_numbers() {
  Floats numbers;
  for (int lane = 0; lane < kLanes; lane++) numbers[lane] = lane;
  return numbers;
}

// The value on its own: a product is rounded before it is added to something.
template <typename V>
inline V alone(V value) {
#if defined(__FMA__)
  asm("" : "+x"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#elif !defined(__x86_64__)
  asm("" : "+m"(value));
#endif
  return value;
}

// As `narrow` and `widen` do, of what is computed from numbers of T: a NaN of theirs is in the bits
// that stay.
template <typename T>
inline Floats rounded(Floats wide) {
  if constexpr (sizeof(T) == sizeof(float)) return alone(wide);
#if defined(__AVX512BF16__)
  return (Floats)(widened(narrowed(wide)) << 16);
#else
  const Words bits = (Words)wide;
  return (Floats)((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000);
#endif
}

#if defined(__AVX512F__)
// The sum of each of `kLanes` vectors, in the lane of its number.
inline Floats totals(const Floats* vectors) {
  __m512 pairs[8], quads[4];
  for (int i = 0; i < 8; i++) {
    const __m512 a = (__m512)vectors[2 * i], b = (__m512)vectors[2 * i + 1];
    pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  }
  for (int i = 0; i < 4; i++) {
    const __m512d ab = _mm512_castps_pd(pairs[2 * i]), cd = _mm512_castps_pd(pairs[2 * i + 1]);
    quads[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
  }
  auto halves = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  };
  const __m512 low = halves(quads[0], quads[1]), high = halves(quads[2], quads[3]);
  return (Floats)_mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88),
                               _mm512_shuffle_f32x4(low, high, 0xdd));
}
#elif defined(__AVX2__)
inline Floats totals(const Floats* vectors) {
  __m256 pairs[4], quads[2];
  for (int i = 0; i < 4; i++) {
    const __m256 a = (__m256)vectors[2 * i], b = (__m256)vectors[2 * i + 1];
    pairs[i] = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  }
  for (int i = 0; i < 2; i++) {
    const __m256d ab = _mm256_castps_pd(pairs[2 * i]), cd = _mm256_castps_pd(pairs[2 * i + 1]);
    quads[i] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)),
                             _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)));
  }
  return (Floats)_mm256_add_ps(_mm256_permute2f128_ps(quads[0], quads[1], 0x20),
                               _mm256_permute2f128_ps(quads[0], quads[1], 0x31));
}
#else
inline Floats totals(const Floats* vectors) {
  Floats sums = {};
  for (int i = 0; i < kLanes; i++)
    for (int lane = 0; lane < kLanes; lane++) sums[i] += vectors[i][lane];
  return sums;
}
#endif

inline float total(Floats values) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)values);
#else
  float sum = 0;
  for (int lane = 0; lane < kLanes; lane++) sum += values[lane];
  return sum;
#endif
}

inline float largest(Floats values) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)values);
#else
  float most = values[0];
  for (int lane = 1; lane < kLanes; lane++) most = values[lane] > most ? values[lane] : most;
  return most;
#endif
}

// The first `n` lanes; the others are zero.
template <typename T>
inline Floats load_some(const T* from, int64_t n) {
  if (n >= kLanes) return load(from);
  Floats values = {};
  for (int64_t lane = 0; lane < n; lane++) values[lane] = widen(from[lane]);
  return values;
}

template <typename T>
inline void store_some(Floats values, T* to, int64_t n) {
  if (n >= kLanes) return store(values, to);
  for (int64_t lane = 0; lane < n; lane++) narrow(values[lane], to[lane]);
}

// What a long product of two vectors is made of: `kStep` elements at a time.
template <typename T>
struct Product {
  using Operand = Floats;
  static constexpr int kStep = kLanes;
  static Operand get(const T* from) { return load(from); }
  static Operand get_some(const T* from, int64_t n) { return load_some(from, n); }
  static Floats add(Floats sum, Operand left, Operand right) { return sum + left * right; }
};

#if defined(__AVX512BF16__)
template <>
struct Product<bfloat16> {
  using Operand = __m512bh;
  static constexpr int kStep = 32;
  static Operand get(const bfloat16* from) { return (__m512bh)_mm512_loadu_si512(from); }
  // The first `n` elements; the others are zero.
  static Operand get_some(const bfloat16* from, int64_t n) {
    return (__m512bh)_mm512_maskz_loadu_epi16((1u << n) - 1, from);
  }
  static Floats add(Floats sum, Operand left, Operand right) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, left, right);
  }
};
#endif

// What a product of two matrices is made of, one word of each at a time: a float32, or two bfloat16
// that follow each other in the sum, where the processor multiplies such pairs.
template <typename T>
struct Word {
  static constexpr int kSize = 1;  // elements
  static Floats add(Floats sum, Words left, Words right) {
    return sum + (Floats)left * (Floats)right;
  }
};

#if defined(__AVX512BF16__)
template <>
struct Word<bfloat16> {
  static constexpr int kSize = 2;
  static Floats add(Floats sum, Words left, Words right) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
  }
};
#endif

// Four words of each of `kLanes` rows, as four vectors with a lane for each row.
inline void transpose(const Quad* rows, Words* columns) {
#if defined(__AVX512F__)
  __m512i x[4];
  for (int j = 0; j < 4; j++) {
    x[j] = _mm512_castsi128_si512((__m128i)rows[j]);
    x[j] = _mm512_inserti32x4(x[j], (__m128i)rows[4 + j], 1);
    x[j] = _mm512_inserti32x4(x[j], (__m128i)rows[8 + j], 2);
    x[j] = _mm512_inserti32x4(x[j], (__m128i)rows[12 + j], 3);
  }
  __m512i low01 = _mm512_unpacklo_epi32(x[0], x[1]), high01 = _mm512_unpackhi_epi32(x[0], x[1]);
  __m512i low23 = _mm512_unpacklo_epi32(x[2], x[3]), high23 = _mm512_unpackhi_epi32(x[2], x[3]);
  columns[0] = (Words)_mm512_unpacklo_epi64(low01, low23);
  columns[1] = (Words)_mm512_unpackhi_epi64(low01, low23);
  columns[2] = (Words)_mm512_unpacklo_epi64(high01, high23);
  columns[3] = (Words)_mm512_unpackhi_epi64(high01, high23);
#elif defined(__AVX2__)
  __m256i x[4];
  for (int j = 0; j < 4; j++)
    x[j] = _mm256_inserti128_si256(_mm256_castsi128_si256((__m128i)rows[j]), (__m128i)rows[4 + j], 1);
  __m256i low01 = _mm256_unpacklo_epi32(x[0], x[1]), high01 = _mm256_unpackhi_epi32(x[0], x[1]);
  __m256i low23 = _mm256_unpacklo_epi32(x[2], x[3]), high23 = _mm256_unpackhi_epi32(x[2], x[3]);
  columns[0] = (Words)_mm256_unpacklo_epi64(low01, low23);
  columns[1] = (Words)_mm256_unpackhi_epi64(low01, low23);
  columns[2] = (Words)_mm256_unpacklo_epi64(high01, high23);
  columns[3] = (Words)_mm256_unpackhi_epi64(high01, high23);
#else
  for (int j = 0; j < 4; j++)
    for (int lane = 0; lane < kLanes; lane++) columns[j][lane] = rows[lane][j];
#endif
}

// `work(0)` to `work(kTimes - 1)`, each number a constant: vectors of an array that is indexed by them
// alone stay in registers.
template <int kTimes, typename Work>
__attribute__((always_inline)) inline void repeat(const Work& work) {
  if constexpr (kTimes > 0) {
    repeat<kTimes - 1>(work);
    work(std::integral_constant<int, kTimes - 1>());
  }
}

// The first `num` elements that a `Quad` holds; the others are zero.
template <typename T>
inline Quad load_quad(const T* from, int64_t num) {
  Quad quad = {};
#if defined(__AVX512F__)
  quad = (Quad)_mm_maskz_loadu_epi8((1u << num * sizeof(T)) - 1, from);
#else
  if (num == sizeof(Quad) / sizeof(T) / 2)
    std::memcpy(&quad, from, sizeof(Quad) / 2);
  else
    std::memcpy(&quad, from, num * sizeof(T));
#endif
  return quad;
}

// Of each of `kLanes` rows, which begin at `row(lane)`, the elements that a `Quad` holds: a lane for
// each row, four vectors of a word each. Elements beyond `num` are zero.
template <typename T, typename Row>
inline void load_words_of(Row row, int64_t num, Words* words) {
  Quad quads[kLanes];
  if (num >= static_cast<int64_t>(sizeof(Quad) / sizeof(T)))
    repeat<kLanes>([&](auto lane) { std::memcpy(&quads[lane], row(lane), sizeof(Quad)); });
  else
    repeat<kLanes>([&](auto lane) { quads[lane] = load_quad<T>(row(lane), num); });
  transpose(quads, words);
}

// The same as float32, a vector for each element.
template <typename T, typename Row>
inline void load_columns_of(Row row, int64_t num, Floats* columns) {
  Words words[4];
  load_words_of<T>(row, num, words);
  repeat<4>([&](auto j) {
    if constexpr (sizeof(T) == 4) {
      columns[j] = (Floats)words[j];
    } else {
      columns[2 * j] = (Floats)(words[j] << 16);
      columns[2 * j + 1] = (Floats)(words[j] & 0xffff0000);
    }
  });
}

// The same of the elements from `first` on of each of these rows.
template <typename T>
inline void load_words(const T* const* rows, int64_t first, int64_t num, Words* words) {
  load_words_of<T>([&](int64_t lane) { return rows[lane] + first; }, num, words);
}

template <typename T>
inline void load_columns(const T* const* rows, int64_t first, int64_t num, Floats* columns) {
  load_columns_of<T>([&](int64_t lane) { return rows[lane] + first; }, num, columns);
}

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

constexpr int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }

// `work(first, number of rows)` with the number as a constant, for all of the rows.
template <int kMost, typename Work>
inline void by_rows(int64_t first, int64_t last, Work work) {
  for (; first + kMost <= last; first += kMost) work(first, std::integral_constant<int, kMost>());
  if constexpr (kMost > 1) by_rows<kMost / 2>(first, last, work);
}

}  // namespace
