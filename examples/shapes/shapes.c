/*
 * Every shape is an outline, a list of points that an affine pose moves to its place in the
 * picture. All else follows from one field, the signed distance of each pixel to the outline, in
 * pixels: it fills the shape or draws its contour with a soft edge. Strokes are outlines that are
 * not closed.
 */
#include "shapes.h"

#include <math.h>
#include <stdbool.h>

enum {
    SIDE = SHAPES_SIDE,
    AREA = SIDE * SIDE,
    POINTS_MAX = 48, /* of an outline */
    MARGIN = 6,      /* pixels: nothing is drawn this far outside an outline */
    CELL = 8,        /* pixels of a side of a cell of clouds */
    CELLS = SIDE / CELL
};

/* ---- random numbers: splitmix64 ---- */

struct random {
    uint64_t state;
};

static uint64_t scramble(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t next(struct random *random)
{
    random->state += 0x9E3779B97F4A7C15u;
    return scramble(random->state);
}

/* Seed and index are scrambled in turn: neighbours in either share nothing. */
static struct random random_start(uint64_t seed, uint64_t index)
{
    return (struct random){scramble(scramble(seed + 0x9E3779B97F4A7C15u) ^ index)};
}

/* low <= result <= high; of 24 random bits, which a float holds exactly. */
static float uniform(struct random *random, float low, float high)
{
    return low + (high - low) * ((float)(next(random) >> 40) * 0x1p-24f);
}

static bool chance(struct random *random, float probability)
{
    return uniform(random, 0, 1) < probability;
}

/* 0 <= result < count */
static int pick(struct random *random, int count)
{
    return (int)((next(random) >> 32) * (uint64_t)count >> 32);
}

/* ---- arithmetic ---- */

static float clamp01(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

static float mix(float a, float b, float share) { return a + (b - a) * share; }

/*
 * The sine of an angle in turns, |turns| < 64. By a polynomial (Taylor's, to x^9: the error is
 * below 4e-6 on a quarter turn), as the last bit of a libm's sine differs between machines.
 */
static float sine(float turns)
{
    float t = turns + 64;
    t -= (float)(int)(t + 0.5f); /* -0.5 .. 0.5 */
    if (t > 0.25f) t = 0.5f - t;
    if (t < -0.25f) t = -0.5f - t;
    const float x = t * 6.28318531f, s = x * x;
    return x * (1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72))));
}

static float cosine(float turns) { return sine(turns + 0.25f); }

/* ---- outlines ---- */

struct point {
    float x, y;
};

/* Shapes are made around (0, 0) with a radius of about 1, x to the right and y down. */
struct outline {
    int count;
    bool open; /* a line, not an area */
    struct point points[POINTS_MAX];
};

static void add(struct outline *outline, float x, float y)
{
    outline->points[outline->count++] = (struct point){x, y};
}

/* Points around a circle, the first on top, at `outer` and `inner` radius in turn. */
static void add_corners(struct outline *outline, int count, float outer, float inner)
{
    for (int i = 0; i < count; i++) {
        const float turns = (float)i / (float)count, radius = i % 2 ? inner : outer;
        add(outline, radius * sine(turns), -radius * cosine(turns));
    }
}

static void make_disc(struct outline *out) { add_corners(out, 32, 0.95f, 0.95f); }
static void make_triangle(struct outline *out) { add_corners(out, 3, 1.2f, 1.2f); }
static void make_square(struct outline *out) { add_corners(out, 4, 1.15f, 1.15f); }
static void make_pentagon(struct outline *out) { add_corners(out, 5, 1.05f, 1.05f); }
static void make_star(struct outline *out) { add_corners(out, 10, 1.2f, 0.5f); }

/* As the moon has it: half a circle, and back along half an ellipse. */
static void make_crescent(struct outline *out)
{
    for (int i = 0; i < 16; i++) {
        const float turns = (float)i / 32;
        add(out, 0.55f - 1.1f * sine(turns), 1.1f * cosine(turns));
    }
    for (int i = 16; i > 0; i--) {
        const float turns = (float)i / 32;
        add(out, 0.55f - 0.4f * sine(turns), 1.1f * cosine(turns));
    }
}

static void make_heart(struct outline *out)
{
    for (int i = 0; i < 32; i++) {
        const float t = (float)i / 32, s = sine(t);
        const float y = 13 * cosine(t) - 5 * cosine(2 * t) - 2 * cosine(3 * t) - cosine(4 * t);
        add(out, 1.1f * s * s * s, -0.15f - y / 15);
    }
}

static void make_drop(struct outline *out)
{
    for (int i = 0; i < 32; i++) {
        const float t = (float)i / 32, s = sine(t / 2);
        add(out, 0.95f * sine(t) * s * s, 0.3f - 1.3f * cosine(t) - 0.2f);
    }
}

static void make_spiral(struct outline *out)
{
    out->open = true;
    for (int i = 0; i < POINTS_MAX; i++) {
        const float t = (float)i / (POINTS_MAX - 1), turns = 2.2f * t;
        add(out, (0.05f + t) * cosine(turns), (0.05f + t) * sine(turns));
    }
}

static void make_cross(struct outline *out)
{
    const float reach = 1.1f, half = 0.36f;
    const struct point corners[] = {{half, reach}, {half, half}, {reach, half}};
    /* a quarter at a time: (x, y) turned by 90 degrees is (y, -x) */
    struct point turn = {1, 0};
    for (int quarter = 0; quarter < 4; quarter++) {
        for (int i = 0; i < 3; i++)
            add(out, turn.x * corners[i].x + turn.y * corners[i].y,
                turn.x * corners[i].y - turn.y * corners[i].x);
        turn = (struct point){-turn.y, turn.x};
    }
}

static void make_arrow(struct outline *out)
{
    static const struct point points[] = {{0, -1.2f},    {0.8f, -0.2f}, {0.3f, -0.2f},
                                          {0.3f, 1.1f},  {-0.3f, 1.1f}, {-0.3f, -0.2f},
                                          {-0.8f, -0.2f}};
    for (int i = 0; i < 7; i++) add(out, points[i].x, points[i].y);
}

static void make_bolt(struct outline *out)
{
    static const struct point points[] = {{0.25f, -1.2f}, {-0.65f, 0.15f}, {-0.1f, 0.15f},
                                          {-0.3f, 1.2f},  {0.65f, -0.3f},  {0.1f, -0.3f}};
    for (int i = 0; i < 6; i++) add(out, points[i].x, points[i].y);
}

/* By label. */
static const struct {
    const char *name;
    void (*make)(struct outline *out); /* adds the points to an empty outline */
} classes[SHAPES_CLASSES] = {
    {"disc", make_disc},     {"crescent", make_crescent}, {"heart", make_heart},
    {"drop", make_drop},     {"spiral", make_spiral},     {"triangle", make_triangle},
    {"square", make_square}, {"pentagon", make_pentagon}, {"star", make_star},
    {"cross", make_cross},   {"arrow", make_arrow},       {"bolt", make_bolt},
};

const char *shapes_class_name(int32_t label)
{
    return label >= 0 && label < SHAPES_CLASSES ? classes[label].name : NULL;
}

/* ---- pose ---- */

/* Shape to pixels: scale, slant, turn, move; returns the radius in pixels. */
static float place(struct random *random, float difficulty, struct outline *outline)
{
    const float radius = uniform(random, mix(21, 17, difficulty), 25);
    const float narrow = uniform(random, mix(1, 0.8f, difficulty), 1);
    const float slant = uniform(random, -0.15f, 0.15f) * difficulty;
    const float turns = uniform(random, -0.1f, 0.1f) * difficulty;
    const float room = (SIDE / 2 - radius) * 0.45f * difficulty;
    const float x = SIDE / 2 + uniform(random, -room, room);
    const float y = SIDE / 2 + uniform(random, -room, room);
    const float c = radius * cosine(turns), s = radius * sine(turns);
    for (int i = 0; i < outline->count; i++) {
        struct point *p = &outline->points[i];
        const float u = p->x * narrow + p->y * slant, v = p->y;
        *p = (struct point){x + c * u - s * v, y + s * u + c * v};
    }
    return radius;
}

/* ---- the distance field ---- */

/* Lowers the squared distances of one row of pixel centres to those to the segment a b. */
static void row_to_segment(float y, struct point a, struct point b, float *squares)
{
    const float ex = b.x - a.x, ey = b.y - a.y;
    const float scale = 1 / (ex * ex + ey * ey + 1e-12f);
    for (int i = 0; i < SIDE; i++) {
        const float px = (float)i + 0.5f - a.x, py = y - a.y;
        const float along = clamp01((px * ex + py * ey) * scale);
        const float dx = px - along * ex, dy = py - along * ey;
        const float square = dx * dx + dy * dy;
        squares[i] = square < squares[i] ? square : squares[i];
    }
}

/* Each edge that the row meets turns what is left of it inside out. */
static void row_across_edge(float y, struct point a, struct point b, float *signs)
{
    if ((a.y > y) == (b.y > y)) return;
    const float x = a.x + (b.x - a.x) * ((y - a.y) / (b.y - a.y));
    for (int i = 0; i < SIDE; i++) signs[i] = (float)i + 0.5f < x ? -signs[i] : signs[i];
}

/* A row that an outline does not come near needs no distances. */
static bool is_near(const struct outline *outline, float y)
{
    bool above = false, below = false;
    for (int i = 0; i < outline->count; i++) {
        above = above || outline->points[i].y < y + MARGIN;
        below = below || outline->points[i].y > y - MARGIN;
    }
    return above && below;
}

/* field [AREA]: pixels to the outline, negative inside a closed one; far away, only much. */
static void measure(const struct outline *outline, float *field)
{
    const struct point *points = outline->points;
    for (int row = 0; row < SIDE; row++) {
        const float y = (float)row + 0.5f;
        float *squares = field + row * SIDE, signs[SIDE];
        for (int i = 0; i < SIDE; i++) {
            squares[i] = 4 * AREA;
            signs[i] = 1;
        }
        if (!is_near(outline, y)) continue;
        for (int i = outline->open ? 1 : 0; i < outline->count; i++) {
            const struct point a = points[i ? i - 1 : outline->count - 1], b = points[i];
            row_to_segment(y, a, b, squares);
            if (!outline->open) row_across_edge(y, a, b, signs);
        }
        for (int i = 0; i < SIDE; i++) squares[i] = signs[i] * sqrtf(squares[i]);
    }
}

/* The share of a pixel that is inside, where its centre is `distance` pixels outside. */
static float inside(float distance) { return clamp01(0.5f - distance); }

/* ---- textures ---- */

enum texture_kind { TEXTURE_STRIPES, TEXTURE_CHECKS, TEXTURE_DOTS, TEXTURE_KINDS };

/* A pattern in a turned and scaled frame (u, v), whose unit is one period. */
struct texture {
    int kind;
    float c, s;   /* cosine and sine of the turn, / period */
    float u0, v0; /* so large that u and v are positive all over the picture */
};

static struct texture texture_start(struct random *random)
{
    struct texture texture;
    texture.kind = pick(random, TEXTURE_KINDS);
    const float turns = uniform(random, 0, 1), period = uniform(random, 5, 11);
    texture.c = cosine(turns) / period;
    texture.s = sine(turns) / period;
    texture.u0 = 64 + uniform(random, 0, 1);
    texture.v0 = 64 + uniform(random, 0, 1);
    return texture;
}

/* From -1 in the middle of one half of a period to 1 in that of the other, steep between them. */
static float wave(float u)
{
    const float part = u - (float)(int)u;
    const float triangle = part < 0.5f ? 4 * part - 1 : 3 - 4 * part;
    const float steep = 2.5f * triangle;
    return steep < -1 ? -1 : steep > 1 ? 1 : steep;
}

/* 0 .. 1 at the point (x, y) in pixels. */
static float texture_at(const struct texture *texture, float x, float y)
{
    const float u = texture->u0 + texture->c * x + texture->s * y;
    const float v = texture->v0 + texture->c * y - texture->s * x;
    if (texture->kind == TEXTURE_STRIPES) return 0.5f + 0.5f * wave(u);
    if (texture->kind == TEXTURE_CHECKS) return 0.5f + 0.5f * wave(u) * wave(v);
    const float du = u - (float)(int)u - 0.5f, dv = v - (float)(int)v - 0.5f;
    return clamp01((0.14f - (du * du + dv * dv)) * 12);
}

/* ---- painting ---- */

struct colour {
    float part[SHAPES_CHANNELS]; /* 0 .. 1 */
};

/* [y, x, channel], about 0 .. 1: what is outside is cut off in the end */
struct canvas {
    float values[SHAPES_BYTES];
};

/* Any colour whose parts are below `most`. */
static struct colour colour_start(struct random *random, float most)
{
    struct colour colour;
    for (int c = 0; c < SHAPES_CHANNELS; c++) colour.part[c] = uniform(random, 0, most);
    return colour;
}

static float brightness(struct colour colour)
{
    return 0.3f * colour.part[0] + 0.6f * colour.part[1] + 0.1f * colour.part[2];
}

/* Shapes are brighter than the background; by `least`, unless many tries fail to find that. */
static struct colour colour_above(struct random *random, struct colour other, float least)
{
    struct colour colour = colour_start(random, 1);
    for (int tries = 0; tries < 50 && brightness(colour) < brightness(other) + least; tries++)
        colour = colour_start(random, 1);
    return colour;
}

static struct colour blend(struct colour a, struct colour b, float share)
{
    for (int c = 0; c < SHAPES_CHANNELS; c++) a.part[c] = mix(a.part[c], b.part[c], share);
    return a;
}

static void paint(float *pixel, struct colour colour, float opacity)
{
    for (int c = 0; c < SHAPES_CHANNELS; c++) pixel[c] = mix(pixel[c], colour.part[c], opacity);
}

/* ---- background ---- */

/* Values of a coarse random grid, between its points in proportion. */
struct clouds {
    float at[CELLS + 1][CELLS + 1]; /* -1 .. 1 */
};

static struct clouds clouds_start(struct random *random)
{
    struct clouds clouds;
    for (int y = 0; y <= CELLS; y++)
        for (int x = 0; x <= CELLS; x++) clouds.at[y][x] = uniform(random, -1, 1);
    return clouds;
}

static float clouds_at(const struct clouds *clouds, int x, int y)
{
    const float *above = clouds->at[y / CELL] + x / CELL, *below = above + CELLS + 1;
    const float right = (float)(x % CELL) / CELL, down = (float)(y % CELL) / CELL;
    return mix(mix(above[0], above[1], right), mix(below[0], below[1], right), down);
}

/* From one colour to another in some direction, under a faint texture and faint clouds. */
static void paint_background(struct random *random, float difficulty, struct colour from,
                             struct canvas *canvas)
{
    const struct colour to = blend(from, colour_start(random, 0.5f), 0.5f * difficulty);
    const struct texture texture = texture_start(random);
    const struct clouds clouds = clouds_start(random);
    const float relief = chance(random, 0.5f) ? uniform(random, 0, 0.17f) * difficulty : 0;
    const float cloudy = uniform(random, 0, 0.17f) * difficulty;
    const float turns = uniform(random, 0, 1);
    const float right = cosine(turns) / SIDE * 0.7f, down = sine(turns) / SIDE * 0.7f;
    for (int i = 0; i < AREA; i++) {
        const int x = i % SIDE, y = i / SIDE;
        const float fx = (float)x + 0.5f, fy = (float)y + 0.5f;
        const float share = 0.5f + right * (fx - SIDE / 2) + down * (fy - SIDE / 2);
        const float shade =
            relief * (texture_at(&texture, fx, fy) - 0.5f) + cloudy * clouds_at(&clouds, x, y);
        for (int c = 0; c < SHAPES_CHANNELS; c++)
            canvas->values[i * SHAPES_CHANNELS + c] = mix(from.part[c], to.part[c], share) + shade;
    }
}

/* ---- the shape ---- */

enum style { STYLE_FILLED, STYLE_OUTLINED, STYLE_TEXTURED, STYLES };

/* A pen draws what has no inside, an open shape, and the contour of an outlined one. */
static void paint_shape(struct random *random, float difficulty, const struct outline *outline,
                        float radius, struct colour background, struct canvas *canvas)
{
    const int style = pick(random, STYLES);
    const struct colour colour = colour_above(random, background, mix(0.4f, 0.3f, difficulty));
    const struct colour other = colour_above(random, background, mix(0.4f, 0.3f, difficulty));
    const struct texture texture = texture_start(random);
    const float pen = radius * uniform(random, 0.07f, 0.12f) + 0.3f; /* half its width, pixels */
    float field[AREA];
    measure(outline, field);
    for (int i = 0; i < AREA; i++) {
        const float x = (float)(i % SIDE) + 0.5f, y = (float)(i / SIDE) + 0.5f;
        const bool line = outline->open || style == STYLE_OUTLINED;
        const float share = style == STYLE_TEXTURED ? texture_at(&texture, x, y) : 0;
        paint(canvas->values + i * SHAPES_CHANNELS, blend(colour, other, share),
              inside(line ? fabsf(field[i]) - pen : field[i]));
    }
}

/* ---- strokes ---- */

/*
 * A bent stroke of any colour through three points, the second at most `near` pixels, along x and
 * along y, from the middle of the picture. pen: half the stroke's width, in pixels.
 */
static void paint_stroke(struct random *random, float near, float pen, struct canvas *canvas)
{
    struct outline stroke = {.open = true};
    const float turns = uniform(random, 0, 1);
    const float x = SIDE / 2 + uniform(random, -near, near);
    const float y = SIDE / 2 + uniform(random, -near, near);
    for (int side = -1; side <= 1; side++) {
        const float reach = (float)side * uniform(random, 8, 40);
        const float bend = turns + uniform(random, -0.1f, 0.1f);
        add(&stroke, x + reach * cosine(bend), y + reach * sine(bend));
    }
    const struct colour colour = colour_start(random, 1);
    float field[AREA];
    measure(&stroke, field);
    for (int i = 0; i < AREA; i++)
        paint(canvas->values + i * SHAPES_CHANNELS, colour, inside(field[i] - pen));
}

/* ---- the camera ---- */

/* Contrast and brightness of the whole, then noise (the sum of two uniform numbers). */
static void develop(struct random *random, float difficulty, const struct canvas *canvas,
                    uint8_t *pixels)
{
    const float contrast = 1 - uniform(random, 0, 0.35f) * difficulty;
    const float grey = uniform(random, 0.3f, 0.7f);
    const float noise = uniform(random, 0, 0.09f) * difficulty;
    for (int i = 0; i < SHAPES_BYTES; i++) {
        const uint64_t bits = next(random);
        const float grain = (float)((bits >> 40) + (bits >> 16 & 0xFFFFFF)) * 0x1p-24f - 1;
        const float value = grey + (canvas->values[i] - grey) * contrast + noise * grain;
        pixels[i] = (uint8_t)(clamp01(value) * 255 + 0.5f);
    }
}

/* From back to front. */
static int32_t draw_one(struct random random, float difficulty, uint8_t *pixels)
{
    struct canvas canvas;
    struct outline outline = {.count = 0};
    const int label = pick(&random, SHAPES_CLASSES);
    const struct colour background = colour_start(&random, 0.5f);
    paint_background(&random, difficulty, background, &canvas);
    for (int strokes = pick(&random, 3); strokes > 0; strokes--) {
        const float pen = uniform(&random, 0.5f, 1.5f);
        if (chance(&random, 0.7f * difficulty)) paint_stroke(&random, 30, pen, &canvas);
    }
    classes[label].make(&outline);
    const float radius = place(&random, difficulty, &outline);
    paint_shape(&random, difficulty, &outline, radius, background, &canvas);
    if (chance(&random, 0.3f * difficulty)) {
        const float pen = uniform(&random, 1, 2.5f);
        paint_stroke(&random, 20, pen, &canvas);
    }
    develop(&random, difficulty, &canvas, pixels);
    return label;
}

void shapes_draw(uint64_t seed, uint64_t first, size_t count, float difficulty, uint8_t *pixels,
                 int32_t *labels)
{
    for (size_t i = 0; i < count; i++)
        labels[i] = draw_one(random_start(seed, first + i), difficulty, pixels + i * SHAPES_BYTES);
}
