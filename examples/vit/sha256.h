/*
 * sha256.h - SHA-256 (FIPS 180-4), to name the files that a result was measured with.
 *
 *     sha256 hash;
 *     char hex[SHA256_HEX];
 *     sha256_begin(&hash);
 *     sha256_add(&hash, bytes, size);      any number of times
 *     sha256_end(&hash, hex);
 */
#ifndef VIT_SHA256_H
#define VIT_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BLOCK = 64, SHA256_HEX = 65 /* 64 digits and a zero */ };

typedef struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes added so far; the last size % 64 of them wait in block */
    unsigned char block[SHA256_BLOCK];
} sha256;

void sha256_begin(sha256 *hash);

/* bytes may be NULL if size is 0. */
void sha256_add(sha256 *hash, const void *bytes, size_t size);

/* Writes the digest of all that was added, in lower-case hexadecimal. Then only sha256_begin may
 * follow. */
void sha256_end(sha256 *hash, char hex[SHA256_HEX]);

#endif
