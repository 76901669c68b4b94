// Everything that is native, as one library with a C interface; `library.py` loads it.

#include "attention_tasks.h"
#include "linear.h"
#include "terms.h"

extern "C" void apply_terms_float32(const SiteTable* site, const RunList* runs, const float* x,
                                    float* y, float* hidden, int num_threads) {
  apply(*site, *runs, x, y, hidden, num_threads);
}

extern "C" void apply_terms_bfloat16(const SiteTable* site, const RunList* runs, const bfloat16* x,
                                     bfloat16* y, float* hidden, int num_threads) {
  apply(*site, *runs, x, y, hidden, num_threads);
}

extern "C" void attention_float32(const AttentionCall* call) { write_and_attend<float>(*call); }

extern "C" void attention_bfloat16(const AttentionCall* call) { write_and_attend<bfloat16>(*call); }

extern "C" void linear_float32(const Weight* weight, const SiteTable* site, const RunList* runs,
                               float* hidden, const float* x, float* y, int64_t num_rows,
                               int num_threads) {
  linear(*weight, site, runs, hidden, x, y, num_rows, num_threads);
}

extern "C" void linear_bfloat16(const Weight* weight, const SiteTable* site, const RunList* runs,
                                float* hidden, const bfloat16* x, bfloat16* y, int64_t num_rows,
                                int num_threads) {
  linear(*weight, site, runs, hidden, x, y, num_rows, num_threads);
}
