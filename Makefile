# apikey: API-key management inside PostgreSQL
#
#   make, make install, make installcheck    as with every PGXS extension
#   make demo, make demo-stop                a private server that shows the life of a key
#   make check                               every test, against private servers
#   make check-STAGE                         one of them: see CHECK_STAGES
#   make bench                               the benchmarks (20 minutes); BENCH='--quick --only roundtrip,…' for options
#   make format                              lays out the C++ sources
#
# Variables: PG_CONFIG (which PostgreSQL), WERROR=-Werror (warnings are errors; make check sets it).

CHECK_STAGES = format lint tidy headers unit fuzz regress isolation pgtap tap
HARNESS_GOALS := demo demo-stop format bench check $(CHECK_STAGES:%=check-%)

harness_goals := $(filter $(HARNESS_GOALS),$(MAKECMDGOALS))
pgxs_goals := $(filter-out $(HARNESS_GOALS),$(or $(MAKECMDGOALS),all))

WERROR ?=

ifneq ($(and $(harness_goals),$(pgxs_goals)),)

# Goals of both kinds, as in "make clean check": one after the other, since the harness builds in this same tree.
.NOTPARALLEL:
.PHONY: $(MAKECMDGOALS)
$(MAKECMDGOALS):
	+@$(MAKE) --no-print-directory $@

else ifneq ($(harness_goals),)

# The harness, which must work before there is any PostgreSQL: its scripts install what is missing and then call this file
# again for the rest. They are told PG_CONFIG and WERROR only when somebody chose them.
.NOTPARALLEL:
.PHONY: $(HARNESS_GOALS)
chosen = $(filter environment command,$(firstword $(origin $(1))))
harness_environment = MAKE='$(MAKE)' $(if $(call chosen,WERROR),WERROR='$(WERROR)') \
	PG_CONFIG='$(if $(call chosen,PG_CONFIG),$(PG_CONFIG))'

demo demo-stop:
	@$(harness_environment) test/bin/$@

check:
	@$(harness_environment) test/bin/check $(CHECK_STAGES)

$(CHECK_STAGES:%=check-%): check-%:
	@$(harness_environment) test/bin/check $*

format:
	@test/bin/format

bench:
	@$(harness_environment) test/bench/run $(BENCH)

else

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifeq ($(PGXS),)
$(error '$(PG_CONFIG)' knows no PostgreSQL server headers: install postgresql-server-dev-N, or set PG_CONFIG)
endif

PG_MAJOR := $(shell $(PG_CONFIG) --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
ifeq ($(filter 15 16 17 18,$(PG_MAJOR)),)
$(error apikey needs PostgreSQL 15 to 18, and '$(PG_CONFIG)' belongs to $(shell $(PG_CONFIG) --version))
endif

# The version stands in the control file and nowhere else.
EXTENSION = apikey
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" apikey.control)

MODULE_big = apikey
SRCS := $(sort $(wildcard src/*/*.cpp))
OBJS := $(SRCS:.cpp=.o)

INSTALL_SCRIPT_SQL := sql/apikey--$(EXTVERSION).sql
TOPIC_SQL := $(sort $(wildcard sql/[0-9]*.sql))
DATA := $(wildcard sql/apikey--*--*.sql)
DATA_built = $(INSTALL_SCRIPT_SQL)

# Only what PostgreSQL looks up by name is visible outside. Server headers are system headers: their warnings are not ours.
PG_CPPFLAGS = -Isrc -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Wshadow $(WERROR) -fvisibility=hidden -fvisibility-inlines-hidden
ifeq ($(PG_MAJOR),15)
# PostgreSQL 15 still says "register", and leaves it to us to say what PGDLLEXPORT means where everything else is hidden.
PG_CPPFLAGS += '-DPGDLLEXPORT=__attribute__((visibility("default")))'
PG_CXXFLAGS += -Wno-register
endif
# TLS is a library of its own, since hiredis 1.0.
HIREDIS_TLS := $(shell $(CXX) -fsyntax-only -x c++ -include hiredis/hiredis.h -include hiredis/hiredis_ssl.h /dev/null 2>/dev/null && echo yes)
SHLIB_LINK += $(if $(HIREDIS_TLS),-lhiredis_ssl -lssl) -lhiredis -lcrypto

# The library is C++, so the C++ driver links it.
override COMPILER = $(CXX) $(CXXFLAGS)

# installcheck needs a running server that preloads apikey. The isolation runner looks for its expected files in outputdir.
TEST_MODULE = build/module/apikey_wall_test$(DLSUFFIX)
REGRESS := $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=apikey --dlpath=build/module
REGRESS_PREP := $(if $(wildcard test/module/*.cpp),test-module)
ISOLATION := $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=apikey
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

EXTRA_CLEAN = build results output_iso regression.diffs regression.out $(OBJS:.o=.d)

# No bitcode, for which clang would compile every source a second time: the functions that SQL calls are thin, and the JIT
# compiler could copy no more than those into its expressions.
override with_llvm = no

include $(PGXS)

# Objects follow their headers, and the server and flags that they were compiled for.
BUILD_FLAGS = $(VERSION) $(CXX) $(CXXFLAGS) $(CPPFLAGS)
build/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(call shell_quote,$(BUILD_FLAGS)) | cmp -s - $@ || printf '%s\n' $(call shell_quote,$(BUILD_FLAGS)) > $@
shell_quote = '$(subst ','\'',$(1))'

.PHONY: FORCE
FORCE:

$(OBJS): %.o: %.cpp build/flags
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MMD -MP -MF $*.d -c -o $@ $<

-include $(OBJS:.o=.d)

# The objects that know the version, so that a new version does not recompile everything.
VERSION_OBJ := $(filter %/library_version.o %/entry/init.o,$(OBJS))
$(VERSION_OBJ): apikey.control
$(VERSION_OBJ): private override CPPFLAGS += -DAPIKEY_VERSION='"$(EXTVERSION)"'

# The install script, from its topics in the order of their names.
$(INSTALL_SCRIPT_SQL): FORCE
	@test -n '$(TOPIC_SQL)' || { echo 'there is no sql/[0-9]*.sql to build $@ from' >&2; exit 1; }
	@cat $(TOPIC_SQL) | cmp -s - $@ || { echo 'cat $(TOPIC_SQL) > $@'; cat $(TOPIC_SQL) > $@; }

# The Lua scripts, as definitions of C++: the source, and what EVALSHA calls it by.
LUA_SCRIPTS := $(sort $(wildcard src/lua/*.lua))
LUA_DEFINITIONS = build/lua/scripts.inc
define print_lua_definitions
for script in $(LUA_SCRIPTS:src/lua/%.lua=%); do \
	hash=$$(sha1sum < src/lua/$$script.lua) && \
	printf 'constinit const Script %s{"%s", R"lua(' $$script $$script && cat src/lua/$$script.lua && \
	printf ')lua", "%s"};\n' "$${hash%% *}" || exit; \
done
endef
$(LUA_DEFINITIONS): FORCE
	@mkdir -p $(@D)
	@$(print_lua_definitions) > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

LUA_OBJ := $(filter %/redis/script.o,$(OBJS))
$(LUA_OBJ): $(LUA_DEFINITIONS)

# A second small library, for the tests only: C++ behind SQL functions that raise, throw and count destructors. It takes from
# src the objects that it refers to, and no other.
.PHONY: test-module
test-module: $(TEST_MODULE)

TEST_MODULE_OBJS := $(patsubst test/module/%.cpp,build/module/%.o,$(sort $(wildcard test/module/*.cpp)))

$(TEST_MODULE_OBJS): build/module/%.o: test/module/%.cpp build/flags
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MMD -MP -MF build/module/$*.d -c -o $@ $<

-include $(TEST_MODULE_OBJS:.o=.d)

# Appended, not replaced: two objects may have the same base name.
build/module/src.a: $(filter-out $(INIT_OBJ),$(OBJS))
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) qcs $@ $^

$(TEST_MODULE): $(TEST_MODULE_OBJS) build/module/src.a
	$(if $(TEST_MODULE_OBJS),,$(error there is no test/module/*.cpp to build $@ from))
	$(COMPILER) -shared -o $@ $^ $(LDFLAGS) $(LDFLAGS_SL) $(SHLIB_LINK)

# For the checks that compile without this file, and so need what it makes.
.PHONY: print-compile-flags
print-compile-flags: $(LUA_DEFINITIONS)
	@printf '%s\n' $(PG_CPPFLAGS) $(PG_CXXFLAGS) -D_GNU_SOURCE -DAPIKEY_VERSION='"$(EXTVERSION)"'

endif
