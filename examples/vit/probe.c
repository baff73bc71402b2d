#include "probe.h"

#include <math.h>

/* One step of splitmix64, from a state that holds what came before. */
static uint64_t mix(uint64_t state, uint64_t value)
{
    uint64_t z = state + value * 0x9E3779B97F4A7C15u + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double sign(uint64_t state, size_t class) { return mix(state, class) >> 63 ? 1 : -1; }

/* In double: classes of little probability are what is left where a model is sure. */
void probe_draw(uint64_t seed, uint64_t image, uint64_t draw, const float *logits, size_t classes,
                float *v)
{
    const uint64_t state = mix(mix(mix(0, seed), image), draw);
    double largest = (double)logits[0], sum = 0, projection = 0;
    for (size_t i = 1; i < classes; i++) largest = fmax(largest, (double)logits[i]);
    for (size_t i = 0; i < classes; i++) sum += exp((double)logits[i] - largest);
    for (size_t i = 0; i < classes; i++)
        projection += sqrt(exp((double)logits[i] - largest) / sum) * sign(state, i);
    for (size_t i = 0; i < classes; i++) {
        const double p = exp((double)logits[i] - largest) / sum;
        v[i] = (float)(sqrt(p) * sign(state, i) - p * projection);
    }
}
