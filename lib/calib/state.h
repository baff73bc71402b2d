/*
 * state.h - the bytes of a saved calibrator.
 *
 * Little-endian, without gaps, floats as their IEEE bits. What was observed alone decides the bytes: no
 * order in which it came, no slot, no size of an allocation shows.
 *
 *   state    magic[8]  version:u32  0:u32  size:u64  seed:u64  max_bytes:u64  max_rows:u64  sites:u64
 *            {name[64]  field:u64 x QVITP_STATE_FIELDS} x sites
 *            {streams:u32  0:u32  stream x bits of streams  kept} x sites
 *            checksum:u64
 *   stream   lo:f32 x channels  hi:f32 x channels  {bins:u64  {bin:u32  count:u64} x bins} x groups
 *   kept     linear: {rows:u64  {sample:u64  row} x rows}
 *            matmul: {matrices:u64  {sample:u64  matrix} x matrices} x heads
 *   matrix   parts:u32  right operand:f32 x (n k) x bits of parts  rows:u64  row x rows
 *   row      number:u64  parts:u32  f32 x (n or k) x bits of parts
 *
 * `size` is that of all bytes. Only bins that are not empty are there, rising; rows and matrices in the
 * order of their keys, which are made anew from seed, site, sample, head and number. A matmul site
 * without observations has k = n = 0, and only matmul sites with k or n have their heads behind.
 */
#ifndef QVITP_STATE_H
#define QVITP_STATE_H

#include "calib/calibrator.h"

enum { QVITP_STATE_VERSION = 1, QVITP_STATE_MAGIC = 8, QVITP_STATE_HEADER = 56 };

/* As of PNG: a byte that is no text, and line ends that a transfer as text would change. */
extern const unsigned char qvitp_state_magic[QVITP_STATE_MAGIC];

/* What a site is; the sizes of a matmul are 0 until they are known. */
enum qvitp_state_field {
    QVITP_STATE_TYPE,
    QVITP_STATE_KIND,
    QVITP_STATE_HEADS, /* of a matmul, as the next; 0 for linear sites, which do not read them */
    QVITP_STATE_TRANSPOSED,
    QVITP_STATE_INPUTS,
    QVITP_STATE_OUTPUTS,
    QVITP_STATE_INPUT_TIE,
    QVITP_STATE_PRODUCER, /* plus 1; 0: none */
    QVITP_STATE_WEIGHT,   /* hashes; 0: none */
    QVITP_STATE_BIAS,
    QVITP_STATE_FIELDS
};
enum { QVITP_STATE_NAME = 64, QVITP_STATE_SITE = QVITP_STATE_NAME + 8 * QVITP_STATE_FIELDS };

void qvitp_state_describe(const struct qvitp_site *site, uint64_t field[QVITP_STATE_FIELDS]);

#endif
