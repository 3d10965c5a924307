#!/usr/bin/env bash
# Makes the Debian packages of both architectures in bin/, from the tree as it is: make deb.
# The same commit gives the same bytes, because every time in them is the commit's.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${GO:=go}" "${NFPM:?}"

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# A snapshot is older than any release, and than any later snapshot.
export VERSION=${VERSION:-0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$(git rev-parse --short=12 HEAD)}
export MAINTAINER=${MAINTAINER:-finwait maintainers <finwait@localhost>}
export STAGE=bin/deb

umask 022
rm -rf "$STAGE"
mkdir -p "$STAGE"
for arch in amd64 arm64; do
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch "$GO" build -trimpath -ldflags "-s -w" -o "$STAGE/$arch/finwait" ./cmd/finwait
done
for shell in bash zsh fish; do
	bin/finwait completion "$shell" >"$STAGE/finwait.$shell"
done
gzip -9n <docs/finwait.1 >"$STAGE/finwait.1.gz"
gzip -9n <CHANGELOG.md >"$STAGE/changelog.gz"
gzip -9n >"$STAGE/changelog.Debian.gz" <<-END
	finwait ($VERSION-1) unstable; urgency=medium

	  * changelog.gz says what has changed.

	 -- $MAINTAINER  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END

# The licences of the modules in the binary, which most of them want to go with it.
GOOS=linux "$GO" list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/finwait |
	LC_ALL=C sort -u | while read -r module version dir; do
	printf '=== %s %s\n\n' "$module" "$version"
	found=$(find "$dir" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) | LC_ALL=C sort)
	[ -n "$found" ] || { echo "$module has no licence" >&2; exit 1; }
	xargs -d '\n' cat <<<"$found"
	echo
done | gzip -9n >"$STAGE/modules.gz"

for arch in amd64 arm64; do
	ARCH=$arch "$GO" run "$NFPM" package --config deploy/nfpm.yaml --packager deb --target "bin/finwait_$arch.deb"
done
