# The core without a server: its unit tests, and its fuzz targets, both with AddressSanitizer and UBSan.
# From the top directory: make -f test/core.mk unit fuzz

CORE := $(sort $(wildcard src/core/*.cpp))
UNIT := $(sort $(wildcard test/unit/*.cpp))
FUZZ := $(sort $(wildcard test/fuzz/*.cpp))

WERROR ?= -Werror
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FLAGS = -std=c++20 -g -O1 -Wall -Wextra -Wshadow $(WERROR) -Isrc $(SANITIZE)
CXX = g++
CLANGXX ?= clang++

.PHONY: unit fuzz
unit: build/unit/unit_test
fuzz: $(FUZZ:test/fuzz/%.cpp=build/fuzz/%)

UNIT_OBJS := $(CORE:%.cpp=build/unit/%.o) $(UNIT:%.cpp=build/unit/%.o)
FUZZ_OBJS := $(CORE:%.cpp=build/fuzz/%.o)

build/unit/unit_test: $(UNIT_OBJS)
	$(CXX) $(FLAGS) -o $@ $^ -lgtest_main -lgtest -lcrypto -pthread

build/unit/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(FLAGS) -MMD -MP -c -o $@ $<

# Every fuzz target is one file with its own LLVMFuzzerTestOneInput.
$(FUZZ:test/fuzz/%.cpp=build/fuzz/%): build/fuzz/%: build/fuzz/test/fuzz/%.o $(FUZZ_OBJS)
	$(CLANGXX) $(FLAGS) -fsanitize=fuzzer -o $@ $^ -lcrypto

build/fuzz/%.o: %.cpp
	@mkdir -p $(@D)
	$(CLANGXX) $(FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

.SECONDARY:

-include $(UNIT_OBJS:.o=.d) $(FUZZ_OBJS:.o=.d) $(FUZZ:%.cpp=build/fuzz/%.d)
