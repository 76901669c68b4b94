// Attention of single rows. It takes as long as keys and values take to come from memory, so they
// are looked at in the order in which they lie there: a few positions, of all heads.

#pragma once

#include "attention.h"

namespace {

constexpr int64_t kStretchKeys = 16;
constexpr int64_t kMaxTotal = 16384;  // floats of unfinished output that one task keeps on its stack
constexpr int64_t kMaxQueries = kMaxTotal / 8;

// Positions from `first` on that lie side by side, and the kv heads of a task.
struct Stretch {
  int64_t first, num, slot, first_head, num_heads;

  Stretch(const AttentionCall& call, int64_t table, int64_t first, int64_t end, int64_t first_head,
          int64_t num_heads)
      : first(first), first_head(first_head), num_heads(num_heads) {
    const int64_t offset = first % call.block_size, left = call.block_size - offset;
    num = left < kStretchKeys ? left : kStretchKeys;
    if (num > end - first) num = end - first;
    slot = call.blocks[table + first / call.block_size] * call.block_size + offset;
  }

  template <typename T>
  const T* at(const AttentionCall& call, const void* rows, int64_t dim, int64_t head) const {
    return static_cast<const T*>(rows) + (slot * call.kv_heads + head) * dim;
  }

  template <typename T>
  void touch_all(const AttentionCall& call, const void* rows, int64_t dim) const {
    const T* begin = at<T>(call, rows, dim, first_head);
    for (int64_t t = 0; t < num; t++)
      touch(begin + t * call.kv_heads * dim, num_heads * dim * sizeof(T));
  }
};

struct RowScratch {
  float totals[kMaxTotal];                    // [queries, value_dim]
  float weights[kMaxQueries * kStretchKeys];  // [queries, kStretchKeys]
  float factors[kMaxQueries];                 // by which totals shrink
  Softmax softmax[kMaxQueries];
};

// query . key for `num` keys that lie `stride` elements apart.
template <typename T>
inline void multiply(const T* query, const T* keys, int64_t stride, int64_t dim, int64_t num,
                     float* products) {
  using P = Product<T>;
  for (int64_t first = 0; first < num; first += kLanes) {
    const T* rows[kLanes];
    for (int64_t t = 0; t < kLanes; t++)
      rows[t] = keys + (first + t < num ? first + t : first) * stride;
    Floats sums[kLanes] = {};
    int64_t d = 0;
    for (; d + P::kStep <= dim; d += P::kStep) {
      const typename P::Operand part = P::get(query + d);
      for (int64_t t = 0; t < kLanes; t++) sums[t] = P::add(sums[t], part, P::get(rows[t] + d));
    }
    Floats found = totals(sums);
    for (; d < dim; d++)
      for (int64_t t = 0; t < kLanes; t++) found[t] += widen(query[d]) * widen(rows[t][d]);
    store(found, products + first);
  }
}

// total = total * factor + the `num` values, which lie `stride` elements apart, each times its weight.
template <int kNum, typename T>
inline void accumulate(const float* factors, const float* weights, const T* values, int64_t stride,
                       int64_t num, int64_t dim, float* totals) {
  by_rows<kHasManyRegisters ? 4 : 2>(0, dim / kLanes, [&](int64_t vector, auto count) {
    const int64_t c = vector * kLanes;
    Floats sums[kNum][count()];
    for (int q = 0; q < kNum; q++)
      for (int i = 0; i < count(); i++)
        sums[q][i] = load(totals + q * dim + c + i * kLanes) * factors[q];
    for (int64_t t = 0; t < num; t++)
      for (int i = 0; i < count(); i++) {
        const Floats some = load(values + t * stride + c + i * kLanes);
        for (int q = 0; q < kNum; q++) sums[q][i] += some * weights[q * kStretchKeys + t];
      }
    for (int q = 0; q < kNum; q++)
      for (int i = 0; i < count(); i++) store(sums[q][i], totals + q * dim + c + i * kLanes);
  });
  for (int64_t c = dim / kLanes * kLanes; c < dim; c++)
    for (int q = 0; q < kNum; q++) {
      float& total = totals[q * dim + c];
      total *= factors[q];
      for (int64_t t = 0; t < num; t++)
        total += weights[q * kStretchKeys + t] * widen(values[t * stride + c]);
    }
}

template <typename T>
void see_stretch(const AttentionCall& call, int64_t row, const Stretch& stretch,
                 RowScratch& scratch) {
  const int64_t group = call.group();
  stretch.touch_all<T>(call, call.keys, call.key_dim);
  for (int64_t h = 0; h < stretch.num_heads; h++) {
    const T* keys = stretch.at<T>(call, call.keys, call.key_dim, stretch.first_head + h);
    for (int64_t query = h * group; query < (h + 1) * group; query++) {
      const int64_t head = stretch.first_head * group + query;
      float* weights = scratch.weights + query * kStretchKeys;
      multiply(call.query.at<T>(row, head), keys, call.kv_heads * call.key_dim, call.key_dim,
               stretch.num, weights);
      scratch.factors[query] =
          weigh<T>(call, head, stretch.first, 0, stretch.num, parts(stretch.num, kLanes) * kLanes,
                   weights, scratch.softmax[query],
                   [&](int64_t t, Floats some) { store(some, weights + t); });
    }
  }
  stretch.touch_all<T>(call, call.values, call.value_dim);
  for (int64_t h = 0; h < stretch.num_heads; h++) {
    const T* values = stretch.at<T>(call, call.values, call.value_dim, stretch.first_head + h);
    by_rows<kHasManyRegisters ? 4 : 2>(h * group, (h + 1) * group, [&](int64_t query, auto count) {
      accumulate<count()>(scratch.factors + query, scratch.weights + query * kStretchKeys, values,
                          call.kv_heads * call.value_dim, stretch.num, call.value_dim,
                          scratch.totals + query * call.value_dim);
    });
  }
}

// The query heads of some kv heads of one row.
template <typename T>
void attend(const AttentionCall& call, const Segment& row, int64_t first_head, int64_t num_heads) {
  const int64_t end = row.position + 1, num_queries = num_heads * call.group();
  RowScratch scratch;
  for (int64_t i = 0; i < num_queries; i++) scratch.softmax[i] = kNothingSeen;
  for (int64_t i = 0; i < num_queries * call.value_dim; i++) scratch.totals[i] = 0;
  for (int64_t first = call.oldest(row.position); first < end;) {
    const Stretch stretch(call, row.table, first, end, first_head, num_heads);
    see_stretch<T>(call, row.row, stretch, scratch);
    first += stretch.num;
  }
  for (int64_t i = 0; i < num_queries; i++)
    write_out<T>(call, row.row, first_head * call.group() + i, scratch.totals + i * call.value_dim,
                 scratch.softmax[i]);
}

}  // namespace
