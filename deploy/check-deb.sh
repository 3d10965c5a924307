#!/usr/bin/env bash
# Checks the packages that deploy/deb.sh has made: what is in them, that they come out the same
# again, and what one of them does and leaves in a new Debian root: make check-deb.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
fail() { echo "check-deb: $*" >&2; exit 1; }

# Static is what finwait is meant to be. No bug of Debian asks for this package. The address is
# that of who makes the package: MAINTAINER.
lintian --allow-root --fail-on error,warning --suppress-tags \
	statically-linked-binary,initial-upload-closes-no-bugs,bogus-mail-host,bogus-mail-host-in-debian-changelog \
	bin/finwait_amd64.deb bin/finwait_arm64.deb

# Both have the same files, and each a binary of its own architecture.
for machine in amd64:3e arm64:b7; do # e_machine of elf(5)
	arch=${machine%:*}
	[ "$(dpkg-deb -f "bin/finwait_$arch.deb" Architecture)" = "$arch" ] || fail "$arch: another architecture"
	dpkg-deb -x "bin/finwait_$arch.deb" "$root/$arch"
	code=$(od -An -tx1 -j18 -N1 "$root/$arch/usr/bin/finwait")
	[ "$code" = " ${machine#*:}" ] || fail "$arch: the binary is of another machine ($code)"
done
diff <(cd "$root/amd64" && find . | sort) <(cd "$root/arm64" && find . | sort) || fail "the packages have different files"

# Made again later, from files with other times, they are the same.
sums=$(sha256sum bin/finwait_*.deb)
sleep 1
deploy/deb.sh >/dev/null
sha256sum --quiet -c <<<"$sums" || fail "made again, the packages differ"

arch=$(dpkg --print-architecture)
mmdebstrap --quiet --variant=minbase "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root/debian"
cp "bin/finwait_$arch.deb" "$root/debian/finwait.deb"

# What is mounted there is gone with the mount namespace.
unshare --mount bash -euo pipefail -s "$root/debian" <<'END'
cd "$1"
in_root() { chroot . "$@"; }
fail() { echo "check-deb: $*" >&2; exit 1; }
# dpkg keeps a log, and what it knew before. The first time it makes these files.
names() { find . -path ./proc -prune -o -print | LC_ALL=C sort; }
in_root dpkg --configure -a
names >../before
mount -t proc proc proc

in_root dpkg -i /finwait.deb
in_root finwait version | grep '^finwait ' || fail "finwait version does not print it"
in_root finwait ls | grep '^LISTEN ' || fail "finwait ls prints no LISTEN"
for shell in bash:bash-completion/completions/finwait zsh:zsh/vendor-completions/_finwait fish:fish/vendor_completions.d/finwait.fish; do
	in_root finwait completion "${shell%%:*}" | cmp - "usr/share/${shell#*:}" || fail "the completions of ${shell%%:*} are others"
done
zcat usr/share/man/man1/finwait.1.gz | grep '^\.Ss finwait stat$' || fail "the man page does not name finwait stat"
grep Apache-2.0 usr/share/doc/finwait/copyright || fail "the licence is missing"
zcat usr/share/doc/finwait/modules.gz | grep '^=== github.com/spf13/cobra ' || fail "the licences of modules are missing"

in_root dpkg --purge finwait
umount proc
names >../after
diff ../before ../after || fail "the removal does not leave what there was"
END
echo "check-deb: ok"
