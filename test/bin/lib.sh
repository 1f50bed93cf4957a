# Common to the scripts of this directory, which source it: which PostgreSQL, as which user, and a private server.
# It leaves the caller in the top directory of the source tree.
# shellcheck shell=bash disable=SC2034

set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# What the caller's make or libpq were told must not reach ours.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES GNUMAKEFLAGS
for variable in "${!PG@}"; do
    [ "$variable" = PG_CONFIG ] || unset "$variable"
done
export LC_ALL=C

PG_CONFIG=${PG_CONFIG:-}
MAKE=${MAKE:-make}
WERROR=${WERROR-}
jobs=$(nproc)
supported_majors='18 17 16 15'
server_port=65432

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# pg_major_of PG_CONFIG
pg_major_of() { "$1" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/'; }

# Has this PostgreSQL both a server and what extensions are built with?  pg_is_complete PG_CONFIG
pg_is_complete() {
    [ -x "$("$1" --bindir)/initdb" ] && [ -x "$("$1" --bindir)/postgres" ] && [ -f "$("$1" --pgxs)" ] &&
        [ -f "$("$1" --includedir-server)/postgres.h" ]
}

# The PG_CONFIG to use: the one that was asked for, else the newest supported one that is complete. Fails when there is none.
find_pg_config() {
    local candidate
    if [ -n "$PG_CONFIG" ]; then
        command -v "$PG_CONFIG"
        return
    fi
    for major in $supported_majors; do
        candidate=/usr/lib/postgresql/$major/bin/pg_config
        if [ -x "$candidate" ] && pg_is_complete "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    candidate=$(command -v pg_config) || return 1
    case " $supported_majors " in
        *" $(pg_major_of "$candidate") "*) pg_is_complete "$candidate" && echo "$candidate" ;;
        *) return 1 ;;
    esac
}

use_pg_config() {
    PG_CONFIG=$(find_pg_config) || die "there is no PostgreSQL 15 to 18 with its server headers"
    export PG_CONFIG
    bindir=$("$PG_CONFIG" --bindir)
    pgxs_test_dir=$(dirname "$("$PG_CONFIG" --pgxs)")/../test
}

# PostgreSQL refuses to run as root, so its part is run by the system user postgres, or by an ordinary caller himself.
if is_root; then
    server_user=postgres
else
    server_user=$(id -un)
fi

# The command runs as the server's user, in the scratch directory.  as_server COMMAND...
as_server() (
    cd "$scratch" || exit
    environment=(HOME="$scratch" PATH="$bindir:$PATH" PGHOST="$scratch/socket" PGPORT="$server_port" PGUSER=postgres)
    if is_root; then
        exec setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --init-groups env "${environment[@]}" "$@"
    fi
    exec env "${environment[@]}" "$@"
)

# A fresh directory for all that a server or its clients touch, for that user only: the source tree may be out of his reach.
# It is under /tmp, whatever TMPDIR says: that may be private to the caller, and the path of a socket must be short.
# make_scratch NAME
make_scratch() {
    id "$server_user" > /dev/null 2>&1 || die "there is no system user $server_user to run a server as"
    scratch=$(mktemp -d "/tmp/apikey-$1.XXXXXX")
    mkdir "$scratch/socket"
    is_root && chown -R "$server_user:$(id -g "$server_user")" "$scratch"
    chmod 0700 "$scratch"
}

# Gives what root copied into the scratch directory to the server's user.
own_scratch() {
    if is_root; then
        chown -R "$server_user:$(id -g "$server_user")" "$scratch"
    fi
}

# A server of our own in the scratch directory: reached through its socket only.  start_server FILE-WITH-MORE-SETTINGS
start_server() {
    as_server initdb --pgdata=data --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync > "$scratch/initdb.log" ||
        { cat "$scratch/initdb.log" >&2; die 'initdb failed'; }
    {
        cat <<CONF
listen_addresses = ''
unix_socket_directories = '$scratch/socket'
port = $server_port
shared_preload_libraries = 'apikey'
CONF
        cat "$1"
    } >> "$scratch/data/postgresql.conf"
    as_server pg_ctl --pgdata=data --log=server.log --silent --wait start > /dev/null ||
        { tail -n 40 "$scratch/server.log" >&2; die 'the server did not start'; }
}

# Stops the server of the scratch directory, when there is one, and removes the directory.
remove_scratch() {
    [ -n "${scratch:-}" ] && [ -d "$scratch" ] || return 0
    if [ -f "$scratch/data/postmaster.pid" ]; then
        as_server pg_ctl --pgdata=data --mode=immediate --silent --wait stop > /dev/null 2>&1 || true
    fi
    rm -rf "$scratch"
}

# From here on, however the shell ends, what it started ends too.
remove_scratch_at_exit() {
    trap 'remove_scratch; give_back_tree' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# With sudo, when it is needed.  as_root COMMAND...
as_root() {
    if is_root; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        printf 'this needs root, and there is no sudo: %s\n' "$*" >&2
        return 1
    fi
}

build_and_install() {
    "$MAKE" --no-print-directory -j "$jobs" PG_CONFIG="$PG_CONFIG" WERROR="$WERROR" all || return
    if [ -w "$("$PG_CONFIG" --pkglibdir)" ] && [ -w "$("$PG_CONFIG" --sharedir)/extension" ]; then
        "$MAKE" --no-print-directory PG_CONFIG="$PG_CONFIG" WERROR="$WERROR" install
    else
        as_root "$MAKE" --no-print-directory PG_CONFIG="$PG_CONFIG" WERROR="$WERROR" install
    fi
}

# clang's tools disagree between versions, about layout and about what there is to complain of: the one that counts is 14, of the
# reference platform. Prints its name, or fails.  find_clang_tool NAME
find_clang_tool() {
    if command -v "$1-14"; then
        return
    fi
    command -v "$1" > /dev/null && [[ $("$1" --version) == *'version 14.'* ]] && command -v "$1"
}

# Can clang++ here link fuzz targets?
has_fuzzer() {
    printf 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }\n' |
        clang++ -fsanitize=fuzzer,address -x c++ -o /dev/null - 2> /dev/null
}

# What root built in somebody's checkout belongs to him.
give_back_tree() {
    if is_root && [ "$(stat -c %u .)" -ne 0 ]; then
        find . -xdev -path ./.git -prune -o -uid 0 -exec chown -h --reference=. {} +
    fi
}
