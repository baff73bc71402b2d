/* page_parts.h - the pieces that a page is made of, and what they share. */
#ifndef VIT_PAGE_PARTS_H
#define VIT_PAGE_PARTS_H

#include <stdio.h>

/* The string of a value, with what HTML would take for markup escaped. */
void page_text(FILE *f, const char *value);

/* A number with so many decimals, or a dash. */
void page_number(FILE *f, const char *value, int decimals);

/* Figures of all sites: SQNR alone and accumulated, and the shares of the loss. */
void page_chart(FILE *f, const char *sites);

/* How the input of a softmax or GELU site is distributed, and the ranges of its quantizer. */
void page_distribution(FILE *f, const char *site);

/* The class that colours a site: its input's kind, without blanks. */
const char *page_kind(const char *site);

#endif
