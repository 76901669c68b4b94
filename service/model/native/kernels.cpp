// Everything that is native, as one library with a C interface; `library.py` loads it.

#include "attention.h"
#include "terms.h"

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

extern "C" void attention_float32(const AttentionCall* call) { write_and_attend<float>(*call); }

extern "C" void attention_bfloat16(const AttentionCall* call) { write_and_attend<bfloat16>(*call); }
