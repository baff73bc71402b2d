/* dispatch.c - from the tables of kernels to the ones that an engine uses. */
#include "plan/dispatch.h"

#include <stdio.h>
#include <string.h>

#include "kernels/target.h"

/* Plainest first: a later table's kernel replaces an earlier one's. */
static const struct qvitp_kernels *const tables[] = {
    &qvitp_kernels_scalar,
#if QVITP_X86
    &qvitp_kernels_avx2,
    &qvitp_kernels_avx2vnni,
    &qvitp_kernels_avx512vnni,
#endif
};
enum { TABLES = sizeof tables / sizeof tables[0] };

static int allowed(const struct qvitp_kernels *table, uint64_t isa)
{
    return (table->needs & ~isa) == 0;
}

uint64_t qvitp_dispatch(uint64_t isa, struct qvitp_kernels *out)
{
    uint64_t used = 0;
    *out = *tables[0];
    for (size_t i = 1; i < TABLES; i++) {
        const struct qvitp_kernels *table = tables[i];
        if (!allowed(table, isa)) continue;
        used |= table->needs;
        out->isa = table->isa;
        if (table->gemm_u8s8) out->gemm_u8s8 = table->gemm_u8s8;
        if (table->gemm_u8s7) out->gemm_u8s7 = table->gemm_u8s7;
        if (table->gemm_t8s8) out->gemm_t8s8 = table->gemm_t8s8;
        if (table->gemm_u8s8_k) out->gemm_u8s8_k = table->gemm_u8s8_k;
        if (table->gemm_u8s7_k) out->gemm_u8s7_k = table->gemm_u8s7_k;
        if (table->gemm_t8s8_k) out->gemm_t8s8_k = table->gemm_t8s8_k;
        if (table->gemm_f32) out->gemm_f32 = table->gemm_f32;
        if (table->stage) out->stage = table->stage;
        if (table->stage_s16) out->stage_s16 = table->stage_s16;
        if (table->expand) out->expand = table->expand;
        if (table->reorder) out->reorder = table->reorder;
        if (table->softmax) out->softmax = table->softmax;
        if (table->softmax_codes) out->softmax_codes = table->softmax_codes;
        if (table->layer_norm) out->layer_norm = table->layer_norm;
        if (table->rescale) out->rescale = table->rescale;
        if (table->encode) out->encode = table->encode;
    }
    return used;
}

void qvitp_dispatch_names(uint64_t isa, char *text, size_t size)
{
    text[0] = 0;
    for (size_t i = 0; i < TABLES; i++) {
        if (!allowed(tables[i], isa)) continue;
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", used ? " " : "", tables[i]->isa);
    }
}
