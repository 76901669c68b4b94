// The row-wise terms of an adapter at one site, for the few rows of a decode step:
//
//     y = c * y + (x A^T) B^T + d        x [rows, in], y [rows, out], both row-major
//
// Rows come in runs of one slot each. Sums are float32 and rounded once; a term that is absent is a
// null pointer. Every byte of an adapter is read once per run. The torch twin is operator/terms.py.

#include <cstdint>
#include <cstring>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

struct Entry {
  const void* a;   // [rank, in]
  const void* b;   // [out, rank]
  const float* c;  // [out]
  const float* d;  // [out]
  int64_t rank;
};

struct Table {
  const Entry* entries;  // by slot
  int64_t size;

  // A slot that is beyond the table does nothing at this site.
  Entry at(int64_t slot) const { return slot < size ? entries[slot] : Entry{}; }
};

struct Run {
  int32_t slot, start, stop;
};

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
  bits += 0x7fff + ((bits >> 16) & 1);  // to nearest, ties to even
  value.bits = static_cast<uint16_t>(bits >> 16);
}

template <typename T>
inline float dot(const T* left, const T* right, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += widen(left[i]) * widen(right[i]);
  return sum;
}

#if defined(__AVX512BF16__)
inline float dot(const bfloat16* left, const bfloat16* right, int64_t n) {
  __m512 sums[4] = {};
  int64_t i = 0;
  for (; i + 128 <= n; i += 128)
    for (int k = 0; k < 4; k++)
      sums[k] = _mm512_dpbf16_ps(sums[k], (__m512bh)_mm512_loadu_si512(left + i + 32 * k),
                                 (__m512bh)_mm512_loadu_si512(right + i + 32 * k));
  float sum = _mm512_reduce_add_ps(
      _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
  for (; i < n; i++) sum += widen(left[i]) * widen(right[i]);
  return sum;
}

inline __m512 widen16(const bfloat16* values) {
  __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)values));
  return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}
#endif

template <typename T>
inline float weighted(const T* weights, const float* hidden, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += widen(weights[i]) * hidden[i];
  return sum;
}

#if defined(__AVX512BF16__)
inline float weighted(const bfloat16* weights, const float* hidden, int64_t n) {
  __m512 sums = _mm512_setzero_ps();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    sums = _mm512_fmadd_ps(widen16(weights + i), _mm512_loadu_ps(hidden + i), sums);
  float sum = i ? _mm512_reduce_add_ps(sums) : 0;
  for (; i < n; i++) sum += widen(weights[i]) * hidden[i];
  return sum;
}
#endif

constexpr int64_t kBlock = 64;  // outputs that one thread takes at a time

template <typename T>
void shrink(const Entry& entry, const Run& run, const T* x, int64_t in, float* hidden, int64_t k) {
  const T* a = static_cast<const T*>(entry.a) + k * in;
  for (int64_t row = run.start; row < run.stop; row++)
    hidden[(row - run.start) * entry.rank + k] = dot(a, x + row * in, in);
}

template <typename T>
void expand(const Entry& entry, const Run& run, T* y, int64_t out, const float* hidden,
            int64_t first) {
  int64_t last = first + kBlock < out ? first + kBlock : out;
  const T* b = static_cast<const T*>(entry.b);
  for (int64_t o = first; o < last; o++)
    for (int64_t row = run.start; row < run.stop; row++) {
      float sum = widen(y[row * out + o]);
      if (entry.c) sum *= entry.c[o];
      if (b) sum += weighted(b + o * entry.rank, hidden + (row - run.start) * entry.rank, entry.rank);
      if (entry.d) sum += entry.d[o];
      narrow(sum, y[row * out + o]);
    }
}

inline bool is_empty(const Entry& entry) { return !entry.b && !entry.c && !entry.d; }

// `hidden` has room for the rank of every row, in the order of the runs.
template <typename T>
void apply(Table table, const Run* runs, int64_t num_runs, const T* x, T* y, int64_t in,
           int64_t out, float* hidden, int num_threads) {
  int64_t num_blocks = (out + kBlock - 1) / kBlock;
#pragma omp parallel num_threads(num_threads)
  {
    int64_t offset = 0;
    for (int64_t i = 0; i < num_runs; i++) {
      const Entry entry = table.at(runs[i].slot);
#pragma omp for schedule(static) nowait
      for (int64_t k = 0; k < (entry.b ? entry.rank : 0); k++)
        shrink(entry, runs[i], x, in, hidden + offset, k);
      offset += (runs[i].stop - runs[i].start) * entry.rank;
    }
#pragma omp barrier
    offset = 0;
    for (int64_t i = 0; i < num_runs; i++) {
      const Entry entry = table.at(runs[i].slot);
#pragma omp for schedule(static) nowait
      for (int64_t block = 0; block < (is_empty(entry) ? 0 : num_blocks); block++)
        expand(entry, runs[i], y, out, hidden + offset, block * kBlock);
      offset += (runs[i].stop - runs[i].start) * entry.rank;
    }
  }
}

}  // namespace

extern "C" void apply_terms_float32(const Entry* entries, int64_t num_slots, const Run* runs,
                                    int64_t num_runs, const float* x, float* y, int64_t in,
                                    int64_t out, float* hidden, int num_threads) {
  apply({entries, num_slots}, runs, num_runs, x, y, in, out, hidden, num_threads);
}

extern "C" void apply_terms_bfloat16(const Entry* entries, int64_t num_slots, const Run* runs,
                                     int64_t num_runs, const bfloat16* x, bfloat16* y, int64_t in,
                                     int64_t out, float* hidden, int num_threads) {
  apply({entries, num_slots}, runs, num_runs, x, y, in, out, hidden, num_threads);
}
