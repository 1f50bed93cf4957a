# The core without a server: its unit tests, and its fuzz targets, both with AddressSanitizer and UBSan; and the
# tests of what several processes share once more with ThreadSanitizer.
# From the top directory: make -f test/core.mk unit tsan fuzz

CORE := $(sort $(wildcard src/core/*.cpp))
UNIT := $(sort $(wildcard test/unit/*.cpp))
FUZZ := $(sort $(wildcard test/fuzz/*.cpp))

WERROR ?= -Werror
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FLAGS = -std=c++20 -g -O1 -Wall -Wextra -Wshadow $(WERROR) -Isrc $(SANITIZE)
CXX = g++
CLANGXX ?= clang++

.PHONY: unit tsan fuzz
unit: build/unit/unit_test
tsan: build/tsan/tsan_test
fuzz: $(FUZZ:test/fuzz/%.cpp=build/fuzz/%)

UNIT_OBJS := $(CORE:%.cpp=build/unit/%.o) $(UNIT:%.cpp=build/unit/%.o)
FUZZ_OBJS := $(CORE:%.cpp=build/fuzz/%.o)

build/unit/unit_test: $(UNIT_OBJS)
	$(CXX) $(FLAGS) -o $@ $^ -lgtest_main -lgtest -lcrypto -pthread

build/unit/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(FLAGS) -MMD -MP -c -o $@ $<

# ThreadSanitizer knows no fences, and gcc says so at each. It cannot mistake their absence for a race here: every
# word that they order is an atomic.
TSAN_TESTS = proof_table bounded_queue
TSAN_FLAGS = $(filter-out $(SANITIZE),$(FLAGS)) -fsanitize=thread -fno-omit-frame-pointer -Wno-tsan
TSAN_OBJS := build/tsan/src/core/proof_table.o $(TSAN_TESTS:%=build/tsan/test/unit/%_test.o)

build/tsan/tsan_test: $(TSAN_OBJS)
	$(CXX) $(TSAN_FLAGS) -o $@ $^ -lgtest_main -lgtest -pthread

build/tsan/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(TSAN_FLAGS) -MMD -MP -c -o $@ $<

# Every fuzz target is one file with its own LLVMFuzzerTestOneInput.
$(FUZZ:test/fuzz/%.cpp=build/fuzz/%): build/fuzz/%: build/fuzz/test/fuzz/%.o $(FUZZ_OBJS)
	$(CLANGXX) $(FLAGS) -fsanitize=fuzzer -o $@ $^ -lcrypto

build/fuzz/%.o: %.cpp
	@mkdir -p $(@D)
	$(CLANGXX) $(FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

.SECONDARY:

-include $(UNIT_OBJS:.o=.d) $(TSAN_OBJS:.o=.d) $(FUZZ_OBJS:.o=.d) $(FUZZ:%.cpp=build/fuzz/%.d)
