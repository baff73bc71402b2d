# libqvit: library, examples, benchmarks and tests. Needs GNU make 4, gcc or clang, an ELF system.
#
## make [TARGET] [VARIABLE=VALUE]...     builds below BUILD, on all cores when no -j is given
##
##   V=1          show the commands                OPENMP=1     let engines run on OpenMP
##   WERROR=1     warnings are errors              SANITIZE=address,undefined
##   EMULATED=1   the AVX-512 kernels in software, by SIMDe (libsimde-dev), for tests on AVX2 machines
##   ONEDNN=/usr  where bench-peers finds include/dnnl.h
##   BUILD=build  CC=cc  CFLAGS=-O3  LDFLAGS=      PREFIX=/usr/local  LIBDIR=  INCLUDEDIR=  DESTDIR=
##

BUILD      ?= build
CFLAGS     ?= -O3
PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include

# The command line's -j wins over this one; a parent make's is seen in the environment.
ifeq ($(filter -j%,$(MAKEFLAGS) $(shell printenv MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
endif
MAKEFLAGS += --output-sync
.DELETE_ON_ERROR:

comma := ,
Q := $(if $(filter 1,$(V)),,@)
E := @$(if $(filter 1,$(V)),:,echo)
export CC CXX V                         # test/run.sh and its scripts use them

# ---- version, from qvit.h; before 1.0 every minor version has a soname of its own ----

version = $(shell awk '$$2 == "QVIT_VERSION_$(1)" { print $$3 }' include/qvit.h)
MAJOR   := $(call version,MAJOR)
MINOR   := $(call version,MINOR)
VERSION := $(MAJOR).$(MINOR).$(call version,PATCH)
SONAME  := libqvit.so.$(if $(filter 0,$(MAJOR)),0.$(MINOR),$(MAJOR))

# ---- flags ----

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wvla -Wstrict-prototypes \
            -Wmissing-prototypes -Wundef $(if $(WERROR),-Werror)
# Contraction would change bits from one instruction set to the next.
BASE     := -std=c11 -ffp-contract=off $(WARNINGS) -MMD -MP
MODE     := $(if $(OPENMP),-fopenmp -DQVIT_OPENMP=1) \
            $(if $(SANITIZE),-g -fno-omit-frame-pointer -fsanitize=$(SANITIZE) \
                             -fno-sanitize-recover=all)
COMPILE   = $(CC) $(CPPFLAGS) $(CFLAGS) $(BASE) $(MODE) $(FLAGS)
LINK      = $(CC) $(CFLAGS) $(MODE) $(LDFLAGS)

# Of qvit-photos alone, and only where pkg-config finds them.
has          = $(shell pkg-config --exists $(1) 2>/dev/null && echo yes)
JPEG        := $(call has,libjpeg)
PNG         := $(call has,libpng)
PHOTO_FLAGS := $(if $(JPEG),-DQVIT_HAVE_JPEG $(shell pkg-config --cflags libjpeg)) \
               $(if $(PNG),-DQVIT_HAVE_PNG $(shell pkg-config --cflags libpng))
PHOTO_LIBS  := $(if $(JPEG),$(shell pkg-config --libs libjpeg)) \
               $(if $(PNG),$(shell pkg-config --libs libpng))

# A library must not abort: its assertions are compiled into sanitizer builds only.
INTERNAL := -Iinclude -Ilib -I.
$(BUILD)/obj/lib/%.o $(BUILD)/obj/kernels/%.o: \
	FLAGS := $(INTERNAL) -fPIC -fvisibility=hidden $(if $(SANITIZE),,-DNDEBUG)
$(BUILD)/obj/examples/%.o: FLAGS := -Iinclude
$(BUILD)/obj/examples/photos/%.o: FLAGS := -Iinclude $(PHOTO_FLAGS)
$(BUILD)/obj/bench/%.o: FLAGS := $(INTERNAL)
$(BUILD)/obj/test/%.o: FLAGS := $(INTERNAL) -Itest -Iexamples/vit

# ---- what there is to build ----

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(sort $(wildcard $(1))))
LIB_OBJ    := $(call objects,lib/*.c lib/*/*.c kernels/*/*.c)
COMMON_OBJ := $(call objects,examples/common/*.c)
VIT_OBJ    := $(call objects,examples/vit/*.c)
SHAPES_OBJ := $(call objects,examples/shapes/*.c)
PHOTOS_OBJ := $(call objects,examples/photos/*.c)
CHECK_OBJ  := $(call objects,test/checkasm/*.c)
BENCH_OBJ  := $(call objects,bench/*.c)

programs = $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard $(1))))
EXAMPLES   := $(call programs,examples/*.c)
UNIT_TESTS := $(call programs,test/unit/test_*.c)
VIT_TESTS  := $(call programs,test/vit/test_*.c)
PHOTO_TESTS := $(call programs,test/photos/test_*.c)
SHAPES     := $(BUILD)/examples/qvit-shapes
PHOTOS     := $(BUILD)/examples/qvit-photos
VIT        := $(if $(VIT_OBJ),$(BUILD)/examples/qvit-vit)
CHECKASM   := $(if $(CHECK_OBJ),$(BUILD)/test/checkasm)
BENCH      := $(if $(BENCH_OBJ),$(BUILD)/bench/qvit-bench)
TESTS      := $(UNIT_TESTS) $(VIT_TESTS) $(PHOTO_TESTS) $(CHECKASM)
PROGRAMS   := $(EXAMPLES) $(VIT) $(SHAPES) $(PHOTOS) $(BENCH) $(TESTS)

# The AVX-512 kernels compile over SIMDe's intrinsics, and the CPU is said to have AVX-512.
ifdef EMULATED
LIB_OBJ := $(filter-out %/lib/cpu/cpu.o,$(LIB_OBJ)) $(call objects,test/emulated/*.c)
$(BUILD)/obj/kernels/x86/%_avx2vnni.o $(BUILD)/obj/kernels/x86/%_avx512vnni.o: \
	FLAGS += -mavx2 -mfma -Wno-psabi -include test/emulated/avx512.h
$(BUILD)/obj/test/emulated/%.o: FLAGS := $(INTERNAL) -fPIC -fvisibility=hidden
$(BUILD)/obj/test/checkasm/checkasm.o: FLAGS += -D'__builtin_cpu_supports(isa)=1'
endif

STATIC := $(BUILD)/libqvit.a
SHARED := $(BUILD)/libqvit.so.$(VERSION)

# What bench-peers compares: peers as PyPI has them, and oneDNN where ONEDNN has its header.
ONEDNN       ?= /usr
PEERS        := $(BUILD)/peers
PEERS_ONEDNN := $(if $(wildcard $(ONEDNN)/include/dnnl.h),$(PEERS)/onednn.so)

# ---- targets ----

.PHONY: all lib examples demo demo-images bench bench-peers test quick unit asan emulated checkasm header-check \
        install uninstall format lint clean help FORCE

all: lib examples $(BENCH)              ## the library, the examples, the benchmarks (default)
lib: $(STATIC) $(SHARED)                ## libqvit.a and libqvit.so
examples: $(EXAMPLES) $(VIT) $(SHAPES) $(PHOTOS) ## the example programs

demo: $(VIT) $(SHAPES)                  ## a trained model, calibrated, quantized and run in int8
	+$(Q)examples/shapes/demo.sh $(BUILD)

demo-images: $(VIT) $(PHOTOS)           ## the same with IMAGES=folder MODEL=file, and LABELS=file
	+$(Q)IMAGES='$(IMAGES)' MODEL='$(MODEL)' LABELS='$(LABELS)' examples/photos/demo.sh $(BUILD)

bench: $(BENCH)                         ## run the benchmarks; ARGS=... goes to them
	+$(Q)$(BENCH) $(ARGS)

bench-peers: $(PEERS)/libqvit.so $(PEERS_ONEDNN) $(PEERS)/venv/ready ## beside oneDNN and ONNX Runtime
	+$(Q)$(PEERS)/venv/bin/python -B bench/peers/bench_peers.py --libqvit $< \
	    $(addprefix --onednn ,$(PEERS_ONEDNN)) $(ARGS)

# '+' lets output through as it comes: --output-sync would hold it back until the end.
test: all $(TESTS)                      ## build everything and run every test
	+$(Q)test/run.sh $(BUILD)

quick: $(TESTS)                         ## run the test programs only, without the real model
	+$(Q)test/run.sh --quick $(BUILD)

unit: $(UNIT_TESTS) $(CHECKASM)         ## of these only the tests of the library itself
	+$(Q)test/run.sh --unit $(BUILD)

asan:                                   ## `quick` under AddressSanitizer and UBSan
	+$(Q)$(MAKE) --no-print-directory quick BUILD=$(BUILD)/asan SANITIZE=address,undefined

emulated:                               ## `unit` with EMULATED=1
	+$(Q)$(MAKE) --no-print-directory unit BUILD=$(BUILD)/emulated EMULATED=1

checkasm: $(CHECKASM)                   ## kernels against the reference; ARGS=... goes to it
	+$(Q)$(CHECKASM) $(ARGS)

header-check:                           ## qvit.h alone, as C and as C++
	$(Q)test/scripts/check_header.sh

install: lib                            ## header, libraries and libqvit.pc, below DESTDIR
	install -d $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 include/qvit.h $(DESTDIR)$(INCLUDEDIR)
	install -m 644 $(STATIC) $(DESTDIR)$(LIBDIR)
	install -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/libqvit.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
	    -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' \
	    -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' \
	    -e 's|@LIBS_PRIVATE@|-lm$(if $(OPENMP), -fopenmp)|' \
	    pkgconfig/libqvit.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/libqvit.pc

uninstall:                              ## what `install` put there
	rm -f $(DESTDIR)$(INCLUDEDIR)/qvit.h $(DESTDIR)$(LIBDIR)/pkgconfig/libqvit.pc \
	    $(addprefix $(DESTDIR)$(LIBDIR)/,$(notdir $(STATIC) $(SHARED)) $(SONAME) libqvit.so)

# qvit.h and kernels.h are not among them: their tables are laid out by hand.
FORMATTED = $(filter-out kernels/kernels.h,$(wildcard \
                $(foreach d,lib lib/* kernels kernels/* examples examples/* bench bench/* test test/*, \
                            $(d)/*.h $(d)/*.c)))
format:                                 ## apply .clang-format
	clang-format -i $(FORMATTED)

lint:                                   ## check that `format` would change nothing
	clang-format --dry-run --Werror $(FORMATTED)

clean:                                  ## remove BUILD
	rm -rf $(BUILD)

help:                                   ## this text
	@awk '/^##/ { print substr($$0, 4) } \
	      /^[a-z-]+:.*## / { split($$0, a, / *## /); sub(/:.*/, "", a[1]); \
	                         printf "  %-13s%s\n", a[1], a[2] }' $(firstword $(MAKEFILE_LIST))

# ---- rules ----

# Each stamp changes, and with it all that depends on it, when its text does.
$(BUILD)/flags: TEXT := $(COMPILE) $(LDFLAGS) $(PHOTO_FLAGS) $(if $(EMULATED),emulated)
$(BUILD)/sources: TEXT := $(LIB_OBJ)
$(BUILD)/flags $(BUILD)/sources: FORCE
	@mkdir -p $(@D); echo '$(TEXT)' | cmp -s - $@ || echo '$(TEXT)' > $@

$(BUILD)/obj/%.o: %.c Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(E) '  CC    $<'
	$(Q)$(COMPILE) -c $< -o $@

$(STATIC): $(LIB_OBJ) $(BUILD)/sources
	$(E) '  AR    $@'
	$(Q)rm -f $@ && $(AR) rcs $@ $(LIB_OBJ)

$(SHARED): $(LIB_OBJ) lib/qvit.map $(BUILD)/sources
	$(E) '  LINK  $@'
	$(Q)$(LINK) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=lib/qvit.map \
	    $(if $(SANITIZE),,-Wl,-z,defs) $(LIB_OBJ) -lm -o $@
	$(Q)ln -sf $(@F) $(BUILD)/$(SONAME) && ln -sf $(@F) $(BUILD)/libqvit.so

$(EXAMPLES): $(BUILD)/%: $(BUILD)/obj/%.o $(COMMON_OBJ)
$(VIT): $(VIT_OBJ) $(COMMON_OBJ)
$(BENCH): $(BENCH_OBJ) $(COMMON_OBJ)
$(SHAPES): $(SHAPES_OBJ) $(filter-out %/main.o,$(VIT_OBJ)) $(COMMON_OBJ)
$(PHOTOS): $(PHOTOS_OBJ) $(filter-out %/main.o,$(VIT_OBJ)) $(COMMON_OBJ)
$(PHOTOS) $(PHOTO_TESTS): LIBS := $(PHOTO_LIBS)
$(PHOTO_TESTS): $(BUILD)/%: $(BUILD)/obj/%.o \
	$(filter-out %/main.o,$(PHOTOS_OBJ) $(VIT_OBJ)) $(COMMON_OBJ)
$(CHECKASM): $(CHECK_OBJ)
$(UNIT_TESTS): $(BUILD)/%: $(BUILD)/obj/%.o
$(VIT_TESTS): $(BUILD)/%: $(BUILD)/obj/%.o $(filter-out %/main.o,$(VIT_OBJ)) $(COMMON_OBJ)
$(PROGRAMS): $(STATIC)
	@mkdir -p $(@D)
	$(E) '  LINK  $@'
	$(Q)$(LINK) $(filter %.o,$^) $(STATIC) $(LIBS) -lm -lpthread -o $@

$(PEERS)/libqvit.so: bench/peers/peer_libqvit.c bench/encoder.c bench/material.c bench/timer.c \
                     examples/common/thread_pool.c $(wildcard bench/*.h bench/*/*.h) $(STATIC)
	@mkdir -p $(@D)
	$(E) '  LINK  $@'
	$(Q)$(COMPILE) $(INTERNAL) -fPIC -shared $(filter %.c,$^) $(STATIC) -lm -lpthread -o $@

# Made anew every time: ONEDNN may name another one.
$(PEERS)/onednn.so: bench/peers/peer_onednn.c FORCE
	@mkdir -p $(@D)
	$(E) '  LINK  $@'
	$(Q)$(COMPILE) $(if $(filter-out /usr,$(ONEDNN)),-I$(ONEDNN)/include -L$(ONEDNN)/lib \
	    -Wl$(comma)-rpath$(comma)$(abspath $(ONEDNN))/lib) -fPIC -shared $< -ldnnl -o $@

$(PEERS)/venv/ready: bench/peers/requirements.txt
	$(E) '  PIP   $(@D)'
	$(Q)python3 -m venv --clear $(@D) && $(@D)/bin/pip install -q -r $< && touch $@

-include $(patsubst %.o,%.d,$(LIB_OBJ) $(BENCH_OBJ) \
                            $(call objects,examples/*.c examples/*/*.c test/*/*.c))
