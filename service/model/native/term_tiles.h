// The arithmetic of terms.h for the rows, ranks and outputs that lie in registers together.
//
// A number is summed up in the same order whatever rows stand beside its own, so that an answer
// does not depend on how many others its adapter gives in the same step.

#pragma once

#include "vectors.h"

namespace {

struct Entry {
  const void* a;   // [rank, in]
  const void* b;   // [out, rank]
  const float* c;  // [out]
  const float* d;  // [out]
  int64_t rank;

  bool is_empty() const { return !b && !c && !d; }
};

constexpr int64_t kRanks = 8;          // rows of A at a time
constexpr int64_t kExpandRows = 64;    // rows of y that share a part of B, at most
constexpr int kRowTile = 4;            // rows that share what is loaded, at most
constexpr int64_t kAheadBytes = 4096;  // from what is read of B to what is asked for

// What lies between A and B is rounded as the model's own layers round, where pairs are multiplied.
template <typename T>
using Hidden = std::conditional_t<Word<T>::kSize == 1, float, T>;

// Elements of x A^T that one row has, those beyond the rank being zero. Each has room for a float.
inline int64_t hidden_size(const Entry& entry) {
  return entry.b ? parts(entry.rank, kRanks) * kRanks : 0;
}

// What comes `kAheadBytes` behind the `num` elements at `from` is read soon.
template <typename T>
inline void prefetch(const T* from, int64_t num) {
  const char* ahead = reinterpret_cast<const char*>(from) + kAheadBytes;
  for (int64_t i = 0; i < num * static_cast<int64_t>(sizeof(T)); i += 64)
    __builtin_prefetch(ahead + i);
}

// left[j] . right[row], for `kTile` rows of a row-major matrix of `num` rows and `kRows` of another
// one, both `n` wide: in lane row * kTile + j. What is beyond the matrix repeats its last row, and
// `kIsWhole` says that nothing is.
template <int kRows, int kTile, bool kIsWhole, typename T>
inline Floats dots(const T* left, int64_t num, const T* right, int64_t n) {
  using P = Product<T>;
  static_assert(kRows * kTile <= kLanes);
  Floats sums[kLanes];
  repeat<kLanes>([&](auto lane) { sums[lane] = Floats{}; });
  const auto add = [&](auto get) {
    typename P::Operand rows[kRows];
    repeat<kRows>([&](auto row) { rows[row] = get(right + row * n); });
    repeat<kTile>([&](auto j) {
      const int64_t place = kIsWhole || j < num ? j : num - 1;
      const typename P::Operand one = get(left + place * n);
      repeat<kRows>([&](auto row) {
        constexpr int lane = row * kTile + j;
        sums[lane] = P::add(sums[lane], one, rows[row]);
      });
    });
  };
  int64_t i = 0;
  for (; i + P::kStep <= n; i += P::kStep) add([&](const T* from) { return P::get(from + i); });
  if (i < n) add([&](const T* from) { return P::get_some(from + i, n - i); });
  return totals(sums);
}

template <int kRows, int kTile, typename T>
inline Floats dots(const T* left, int64_t num, const T* right, int64_t n) {
  return num >= kTile ? dots<kRows, kTile, true>(left, num, right, n)
                      : dots<kRows, kTile, false>(left, num, right, n);
}

// hidden[row][k] = A[k] . x[row] for `kRanks` rows of A from `k` on and kRows rows of x.
template <int kRows, typename T>
void shrink(const Entry& entry, int64_t k, const T* x, int64_t in, float* hidden) {
  constexpr int kTile = kLanes / kRows < kRanks ? kLanes / kRows : kRanks;
  const int64_t size = hidden_size(entry);
  for (const int64_t end = k + kRanks; k < end; k += kTile) {
    const int64_t left = entry.rank - k;
    Hidden<T> values[kLanes] = {};
    if (left > 0)
      store(dots<kRows, kTile>(static_cast<const T*>(entry.a) + k * in, left, x, in), values);
    for (int row = 0; row < kRows; row++) {
      for (int64_t j = left > 0 ? left : 0; j < kTile; j++) narrow(0, values[row * kTile + j]);
      std::memcpy(reinterpret_cast<Hidden<T>*>(hidden + row * size) + k, values + row * kTile,
                  kTile * sizeof(Hidden<T>));
    }
  }
}

// y = c * y + sum + d for `kLanes` outputs; c and d may be null.
template <typename T>
inline void finish(Floats sum, const float* c, const float* d, T* y) {
  Floats old = load(y);
  if (c) old *= load(c);
  sum += old;
  if (d) sum += load(d);
  store(sum, y);
}

// The same for up to `kLanes` outputs from `o` on.
template <typename T>
inline void finish(const Entry& entry, Floats sum, T* y, int64_t o, int64_t n) {
  const float* c = entry.c ? entry.c + o : nullptr;
  const float* d = entry.d ? entry.d + o : nullptr;
  if (n >= kLanes) return finish(sum, c, d, y);
  Floats old = load_some(y, n);
  if (c) old *= load_some(c, n);
  sum += old;
  if (d) sum += load_some(d, n);
  store_some(sum, y, n);
}

// Some outputs and ranks of B, transposed for the rows that share them: sums have a lane for each
// output.
struct Panel {
  static constexpr int kGroups = kHasManyRegisters ? 4 : 2;
  static constexpr int64_t kOutputs = kGroups * kLanes, kMaxWords = 64;
  Words words[kMaxWords][kGroups];
  Floats sums[kExpandRows][kGroups];  // of the ranks before, which were more than a panel holds
  int64_t first, num_words;           // words of the ranks
  bool is_last;
};

// Outputs from `o` on. What lies beyond the last one repeats it. This and `expand` are never part
// of a larger function, where compilers run out of registers.
template <typename T>
__attribute__((noinline)) void load_panel(const Entry& entry, int64_t out, int64_t o, int64_t first,
                                          Panel& panel) {
  constexpr int64_t per_quad = sizeof(Quad) / sizeof(T), size = Word<T>::kSize;
  const int64_t most = Panel::kMaxWords * size, k = first * size;
  const int64_t left = entry.b ? entry.rank - k : 0, num = left < most ? left : most;
  panel.first = first;
  panel.num_words = parts(num, size);
  panel.is_last = left <= most;
  const T* b = static_cast<const T*>(entry.b) + k;
  for (int group = 0; group < Panel::kGroups; group++, o += kLanes) {
    const auto load = [&](auto row) {
      for (int64_t j = 0; j < num; j += per_quad) {
        const auto place = [&](int64_t lane) { return row(lane) + j; };
        Words words[per_quad / size];
        if constexpr (size * 4 == per_quad)
          load_words_of<T>(place, num - j, words);
        else
          load_columns_of<T>(place, num - j, reinterpret_cast<Floats*>(words));
        for (int64_t i = 0; i < per_quad / size; i++) panel.words[j / size + i][group] = words[i];
      }
    };
    if (o + kLanes <= out) {
      prefetch(b + o * entry.rank, kLanes * entry.rank);
      load([=](int64_t lane) { return b + (o + lane) * entry.rank; });
    } else {
      load([=](int64_t lane) { return b + (o + lane < out ? o + lane : out - 1) * entry.rank; });
    }
  }
}

// `kRows` rows of y, `row` being the number of the first one in its part.
template <int kRows, typename T>
__attribute__((noinline)) void expand(const Entry& entry, Panel& panel, int64_t row,
                                      const float* hidden, T* y, int64_t out, int64_t o) {
  using P = Panel;
  const int64_t size = hidden_size(entry);
  Floats sums[kRows][P::kGroups];
  const auto each = [&](auto work) {
    repeat<kRows>([&](auto i) { repeat<P::kGroups>([&](auto group) { work(i, group); }); });
  };
  if (panel.first)
    each([&](auto i, auto group) { sums[i][group] = panel.sums[row + i][group]; });
  else
    each([&](auto i, auto group) { sums[i][group] = Floats{}; });
  hidden += row * size + panel.first;
  for (int64_t k = 0; k < panel.num_words; k++)
    repeat<kRows>([&](auto i) {
      uint32_t word;
      std::memcpy(&word, hidden + i * size + k, sizeof word);
      const Words factor = Words{} + word;
      repeat<P::kGroups>([&](auto group) {
        sums[i][group] = Word<T>::add(sums[i][group], panel.words[k][group], factor);
      });
    });
  if (panel.is_last && o + P::kOutputs <= out) {
    const float* c = entry.c;
    const float* d = entry.d;
    y += row * out + o;
    each([&](auto i, auto group) {
      constexpr int64_t place = group * kLanes;
      finish(sums[i][group], c ? c + o + place : c, d ? d + o + place : d, y + i * out + place);
    });
  } else {
    each([&](auto i, auto group) { panel.sums[row + i][group] = sums[i][group]; });
  }
}

// Outputs `o` to `end` of some neighbouring rows of a run.
template <typename T>
void expand_part(const Entry& entry, int64_t num_rows, const float* hidden, T* y, int64_t out,
                 int64_t o, int64_t end, Panel& panel) {
  for (; o < end; o += Panel::kOutputs) {
    int64_t word = 0;
    do {
      load_panel<T>(entry, out, o, word, panel);
      by_rows<kRowTile>(0, num_rows, [&](int64_t row, auto count) {
        expand<count()>(entry, panel, row, hidden, y, out, o);
      });
      word += panel.num_words;
    } while (!panel.is_last);
    if (o + Panel::kOutputs > out)
      for (int64_t row = 0; row < num_rows; row++)
        for (int64_t place = o; place < out; place += kLanes)
          finish(entry, panel.sums[row][(place - o) / kLanes], y + row * out + place, place,
                 out - place);
  }
}

}  // namespace
