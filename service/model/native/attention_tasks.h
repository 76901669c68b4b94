// The work of one call, shared out among threads.

#pragma once

#include "attention_chunks.h"
#include "attention_rows.h"

namespace {

constexpr int64_t kFewQueries = 8;  // from about here on it pays to look at a key once for all of them
constexpr int64_t kSharedCache = 8 << 20;  // bytes; of a processor's last level, on the safe side

// What a task takes: a block of queries and one kv head, or a row and some kv heads.
struct Shares {
  int64_t block_rows;  // 0 = none fits
  int64_t row_heads;

  bool is_block(const AttentionCall& call, const Segment& segment) const {
    return block_rows && segment.num_rows * call.group() > kFewQueries;
  }

  int64_t tasks_of(const AttentionCall& call, const Segment& segment) const {
    return is_block(call, segment) ? parts(segment.num_rows, block_rows) * call.kv_heads
                                   : segment.num_rows * parts(call.kv_heads, row_heads);
  }

  int64_t num_tasks(const AttentionCall& call) const {
    int64_t num = 0;
    for (int64_t i = 0; i < call.num_segments; i++) num += tasks_of(call, call.segments[i]);
    return num;
  }
};

// As much as its scratch area holds, but so little that every thread has something to do.
inline Shares shares_of(const AttentionCall& call) {
  const int64_t most_heads = kMaxTotal / (call.group() * call.value_dim);
  Shares shares{max_queries(call.key_dim, call.value_dim) / call.group(),
                call.kv_heads < most_heads ? call.kv_heads : most_heads};
  while (shares.num_tasks(call) < 2 * call.num_threads) {
    const bool is_small =
        shares.block_rows <= 1 || shares.block_rows * call.group() <= 2 * kTileQueries;
    if (is_small && shares.row_heads == 1) break;
    if (!is_small) shares.block_rows = parts(shares.block_rows, 2);
    shares.row_heads = parts(shares.row_heads, 2);
  }
  return shares;
}

// Task number `task` of a segment.
template <typename T>
void attend(const AttentionCall& call, const Shares& shares, const Segment& segment, int64_t task) {
  if (shares.is_block(call, segment)) {
    // The last rows first, since they see most.
    const int64_t block = parts(segment.num_rows, shares.block_rows) - 1 - task / call.kv_heads;
    const Segment rows = segment.part(block * shares.block_rows, shares.block_rows);
    attend<T>(call, Block(call, rows, task % call.kv_heads));
  } else {
    const int64_t num_parts = parts(call.kv_heads, shares.row_heads);
    const int64_t first = task % num_parts * shares.row_heads, left = call.kv_heads - first;
    attend<T>(call, segment.part(task / num_parts, 1), first,
              shares.row_heads < left ? shares.row_heads : left);
  }
}

// Fetches what the rows of a segment will see, as long as a cache that threads share holds it.
template <typename T>
void fetch(const AttentionCall& call, const Segment& segment) {
  const int64_t key_bytes = call.block_size * call.kv_heads * call.key_dim * sizeof(T);
  const int64_t value_bytes = call.block_size * call.kv_heads * call.value_dim * sizeof(T);
  const int64_t first = call.oldest(segment.position) / call.block_size;
  const int64_t last = parts(segment.position + segment.num_rows, call.block_size);
  if ((last - first) * (key_bytes + value_bytes) > kSharedCache) return;
#pragma omp for schedule(static)
  for (int64_t i = first; i < last; i++) {
    const int64_t block = call.blocks[segment.table + i];
    touch(static_cast<const char*>(call.keys) + block * key_bytes, key_bytes);
    touch(static_cast<const char*>(call.values) + block * value_bytes, value_bytes);
  }
}

template <typename T>
void write_and_attend(const AttentionCall& call) {
  const Shares shares = shares_of(call);
  const int64_t num_tasks = shares.num_tasks(call);
#pragma omp parallel num_threads(call.num_threads)
  {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < call.num_new; row++) write_new<T>(call, row);
    for (int64_t i = 0; i < call.num_segments; i++)
      if (shares.is_block(call, call.segments[i])) fetch<T>(call, call.segments[i]);
    // From the last segment on: parts of prompts, which take longest, follow the decoding rows.
    const Segment* segment = call.segments + call.num_segments;
    int64_t begin = 0, end = 0;  // tasks of `segment`
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t task = 0; task < num_tasks; task++) {
      while (task >= end) {
        begin = end;
        end += shares.tasks_of(call, *--segment);
      }
      attend<T>(call, shares, *segment, task - begin);
    }
  }
}

}  // namespace
