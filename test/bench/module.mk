# What the benchmarks need to be compiled: the module, with functions that do nothing and floors of cryptography, and the client of
# the section mirror. After the extension, whose objects the module takes the key derivation from. From the top directory:
# make -f test/bench/module.mk

PG_CONFIG ?= pg_config
MODULE = build/bench/apikey_bench.so
CLIENT = build/bench/mirror_client
INCLUDE = -Isrc -isystem $(shell $(PG_CONFIG) --includedir-server)
OPTIMIZE := $(shell $(PG_CONFIG) --cflags) -fPIC -fvisibility=hidden -Wall -Wextra -Wno-declaration-after-statement -D_GNU_SOURCE

CORE := $(sort $(wildcard src/core/*.o))
OBJS := $(patsubst test/bench/module/%,build/bench/%.o,$(sort $(wildcard test/bench/module/*.c test/bench/module/*.cpp)))

all: $(MODULE) $(CLIENT)

$(MODULE): $(OBJS) build/bench/core.a
	$(CXX) -shared -o $@ $^ -lcrypto

build/bench/core.a: $(CORE)
	@rm -f $@
	$(AR) qcs $@ $^

build/bench/%.c.o: test/bench/module/%.c
	@mkdir -p $(@D)
	$(CC) $(OPTIMIZE) $(INCLUDE) -c -o $@ $<

build/bench/%.cpp.o: test/bench/module/%.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Isrc -c -o $@ $<

$(CLIENT): test/bench/client/mirror_client.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -Wall -Wextra -I$(shell $(PG_CONFIG) --includedir) -o $@ $< -L$(shell $(PG_CONFIG) --libdir) -lpq -lhiredis
