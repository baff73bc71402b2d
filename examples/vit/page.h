/* page.h - a card as a page to read: one HTML file that needs nothing else, no scripts, no network. */
#ifndef VIT_PAGE_H
#define VIT_PAGE_H

#include <stdio.h>

/* card: the text of card_compose. A failure stays in the stream. */
void page_write(FILE *stream, const char *card);

#endif
