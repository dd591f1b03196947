# prebuild_ext: the prebuilt-workspace control loop inside PostgreSQL.
#
#   make && make install     build and install with the pg_config on the PATH
#   make unit                the pure C files' own tests (needs cmocka, no server)
#   make fuzz                the fuzzers, FUZZ_SECONDS each (needs clang, no server)
#   make model               every state of small pools (no server)
#   make format              clang-format over src/ and the tests in C
#   make installcheck        the SQL and isolation tests, on a server that runs (see script/installcheck)
#   script/test              everything, on servers of its own

EXTENSION = prebuild_ext
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" prebuild_ext.control)
PGFILEDESC = "prebuild_ext - prebuilt workspaces, reconciled in the database"

MODULE_big = prebuild_ext
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
DATA_built = sql/$(EXTENSION)--$(EXTVERSION).sql
# install scripts of earlier releases, as they were, and the upgrade scripts
DATA = $(wildcard sql/releases/$(EXTENSION)--*.sql)

# The control file is the one place for the version.
PG_CPPFLAGS = -I$(srcdir)/src -DPREBUILD_VERSION='"$(EXTVERSION)"'
# script/test adds -Werror: a compiler that is newer than this release must not break an install.
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter $(WERROR)
SHLIB_LINK = -luuid
# What the library shows to others, on every version: a name of ours that the server or another
# library has as well would be taken for it.
SHLIB_EXPORTS = src/exports.txt

EXTRA_CLEAN = sql/$(EXTENSION)--*.sql test/unit/build test/model/build src/exports.txt src/exports.list

# Its place is taken below. It would run all SQL tests in one database.
NO_INSTALLCHECK = 1
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))

PG_CONFIG ?= pg_config
# The server's own flags are gcc's; clang says so of those that it does not know.
ifneq (,$(findstring clang,$(CC)))
PG_CFLAGS += -Wno-ignored-optimization-argument -Wno-unknown-warning-option -Wno-ignored-attributes
endif
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# One install script out of one file per area, in the order of their numbers.
sql/$(EXTENSION)--$(EXTVERSION).sql: $(sort $(wildcard sql/[0-9][0-9]_*.sql))
	cat $^ > $@

# Functions that SQL calls, each with its description, and what the server looks for by name.
src/exports.txt: $(OBJS:.o=.c) Makefile
	(printf '%s\n' Pg_magic_func _PG_init prebuild_worker_main && \
	 sed -n -e 's/^PG_FUNCTION_INFO_V1(\([a-z0-9_]*\)).*/\1\npg_finfo_\1/p' \
		-e 's/^FUNCTION_OF_LONGER_ROW(\([a-z0-9_]*\), \([0-9_]*\)).*/\1_\2\npg_finfo_\1_\2/p' $(OBJS:.o=.c)) > $@

# Objects depend on every header: there are few, and a stale object is worse.
$(OBJS): $(wildcard src/*.h src/*/*.h) $(EXTENSION).control

# Each file of SQL and isolation tests wants a database of its own, for which PGXS' installcheck has no
# way. REGRESS and ISOLATION name some of the files: make installcheck REGRESS='claim presets' ISOLATION=
installcheck:
	script/installcheck '$(PG_CONFIG)' '$(EXTVERSION)' '$(REGRESS)' '$(ISOLATION)'

.PHONY: installcheck unit fuzz model format check-format
unit:
	$(MAKE) -C test/unit check
fuzz:
	$(MAKE) -C test/unit fuzz
model:
	$(MAKE) -C test/model check

FORMATTED = $(wildcard src/*.[ch] src/*/*.[ch] test/unit/*.[ch] test/model/*.[ch] test/fuzz/*.c test/t/*.c)
format:
	clang-format -i $(FORMATTED)
check-format:
	clang-format --dry-run --Werror $(FORMATTED)
