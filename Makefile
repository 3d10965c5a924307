# Build, test and measure finwait. `make help` lists what there is.

GO      ?= go
CLANG   ?= clang-19
STRIP   ?= llvm-strip-19
ARGS    ?=
FUZZ    ?= 10s
KERNELS ?=
BENCHTIME ?= 1s
DURATION ?= 1m
SEED    ?= 0
HOSTS   ?= 1000
PREFIX  ?= /usr/local
DESTDIR ?=
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
NFPM    = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/finwait, one static binary (no compiler, no headers)
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/finwait ./cmd/finwait

BINDIR  = $(DESTDIR)$(PREFIX)/bin
SHARE   = $(DESTDIR)$(PREFIX)/share
BASH    = $(SHARE)/bash-completion/completions/finwait
ZSH     = $(SHARE)/zsh/site-functions/_finwait
FISH    = $(SHARE)/fish/vendor_completions.d/finwait.fish
MAN     = $(SHARE)/man/man1/finwait.1
DOC     = $(SHARE)/doc/finwait

# Only if it is not there: "make build && sudo make install" needs no Go in root's PATH.
bin/finwait:
	$(MAKE) build

.PHONY: install
install: bin/finwait ## install the binary, man page, shell completions and licences below PREFIX (/usr/local), in DESTDIR
	install -D -m 755 bin/finwait $(BINDIR)/finwait
	install -D -m 644 docs/finwait.1 $(MAN)
	install -d $(dir $(BASH)) $(dir $(ZSH)) $(dir $(FISH)) $(DOC)
	bin/finwait completion bash >$(BASH)
	bin/finwait completion zsh >$(ZSH)
	bin/finwait completion fish >$(FISH)
	chmod 644 $(BASH) $(ZSH) $(FISH)
	install -m 644 LICENSE $(DOC)/LICENSE
	install -m 644 bpf/LICENSE $(DOC)/LICENSE.bpf

.PHONY: uninstall
uninstall: ## remove what install put there; give the same PREFIX and DESTDIR
	rm -f $(BINDIR)/finwait $(MAN) $(BASH) $(ZSH) $(FISH) $(DOC)/LICENSE $(DOC)/LICENSE.bpf
	if [ -d $(DOC) ]; then rmdir --ignore-fail-on-non-empty $(DOC); fi

.PHONY: check-install
check-install: build ## install into an empty directory, run what is there, and fail if uninstall leaves a file
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(MAKE) -s install DESTDIR="$$dir" PREFIX=/usr; \
	"$$dir/usr/bin/finwait" version; \
	[ "$$(find "$$dir" -type f -size +0 | wc -l)" -eq 7 ]; \
	$(MAKE) -s uninstall DESTDIR="$$dir" PREFIX=/usr; \
	left=$$(find "$$dir" ! -type d); [ -z "$$left" ] || { echo "left behind: $$left" >&2; exit 1; }

.PHONY: deb
deb: build ## make the Debian packages bin/finwait_amd64.deb and bin/finwait_arm64.deb (git)
	GO="$(GO)" NFPM=$(NFPM) deploy/deb.sh

.PHONY: check-deb
check-deb: deb ## check them, install one into a new Debian root, run it, and fail if its removal leaves a file (root; mmdebstrap, lintian)
	GO="$(GO)" NFPM=$(NFPM) deploy/check-deb.sh

.PHONY: run
run: build ## build and trace (root); pass flags with ARGS="--port 80"
	./bin/finwait trace $(ARGS)

.PHONY: test
test: ## all tests, on the running kernel (root); one package at a time, as they trace the same host
	$(GO) test -p 1 -parallel 4 -timeout 25m ./...

.PHONY: test-unit
test-unit: ## the tests that need no kernel of their own, with the race detector; not the model, which runs C, and not the doctor with real servers
	$(GO) test -race -parallel 4 -timeout 25m -skip TestDoctorOfServers $$($(GO) list ./... | grep -v -e /internal/test/live -e /internal/test/model)

.PHONY: test-browser
test-browser: web/node_modules ## the tests of the page, in Chromium, with a real tracer (root; chromium, npm)
	cd internal/test/browser && $(GO) test -count=1 -timeout 8m .

.PHONY: test-live
test-live: ## the tests that trace the running kernel (root)
	$(GO) test -count=1 -timeout 6m ./internal/test/live

.PHONY: test-e2e
test-e2e: ## finwait serve with a real Prometheus and a real OpenTelemetry Collector, built from Go modules (root; 2 min, the first time 10)
	cd internal/test/e2e && $(GO) test -count=1 -timeout 20m ./...

.PHONY: test-e2e-more
test-e2e-more: ## metrics and an alert on to VictoriaMetrics, another Prometheus and Alertmanager (root; prometheus-alertmanager; 1 min, the first time 10)
	cd internal/test/e2e && $(GO) test -count=1 -timeout 20m -tags more -run TestFleet .

.PHONY: fleet
fleet: ## measure a real Prometheus that scrapes HOSTS (1000) simulated hosts for DURATION (1m) (root, quiet machine)
	cd internal/test/e2e && $(GO) test -count=1 -timeout 60m -v -tags more -run TestManyHosts . -hosts $(HOSTS) -lasts $(DURATION)

.PHONY: test-kernels
test-kernels: ## the same on Debian's kernels in QEMU, with both sets of hooks (20 min for two kernels on two slow CPUs); pick with KERNELS="6.1 7.3"
	$(GO) run ./internal/test/kernels -kernels "$(KERNELS)"

.PHONY: docs-kernels
docs-kernels: ## the same, and write docs/kernels.md
	$(GO) run ./internal/test/kernels -docs docs/kernels.md

.PHONY: soak
soak: build ## run finwait for DURATION (1m) under everything at once, stalled, killed and started again (root); SEED=n chooses the same again
	$(GO) run ./internal/test/soak -duration $(DURATION) -seed $(SEED)

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZ (10s)
	$(GO) test -run '^$$' -fuzz FuzzResolve -fuzztime $(FUZZ) ./tracer
	$(GO) test -run '^$$' -fuzz FuzzNames -fuzztime $(FUZZ) ./internal/text
	$(GO) test -run '^$$' -fuzz FuzzNames -fuzztime $(FUZZ) ./internal/jsonl
	$(GO) test -run '^$$' -fuzz FuzzRead -fuzztime $(FUZZ) ./internal/jsonl
	$(GO) test -run '^$$' -fuzz FuzzModel -fuzztime $(FUZZ) ./internal/test/model
	$(GO) test -run '^$$' -fuzz FuzzParse -fuzztime $(FUZZ) ./internal/sockdiag
	$(GO) test -run '^$$' -fuzz FuzzReadModule -fuzztime $(FUZZ) ./internal/userstack
	$(GO) test -run '^$$' -fuzz FuzzParse -fuzztime $(FUZZ) ./internal/label
	$(GO) test -run '^$$' -fuzz FuzzIndex -fuzztime $(FUZZ) ./internal/histogram

.PHONY: bench
bench: build ## measure what tracing costs, beside other tracers (root, quiet machine); write it down with ARGS="-docs docs/overhead.md"
	$(GO) run ./internal/test/bench $(ARGS)

.PHONY: bench-deps
bench-deps: ## install the other tracers, from Debian (root)
	apt-get install -y --no-install-recommends bpftrace libbpf-tools

.PHONY: bench-parts
bench-parts: ## measure parts of the reader and of ls; each for BENCHTIME (1s). BenchmarkMillion needs a quiet machine, and is run by hand
	$(GO) test -run '^$$' -bench . -skip BenchmarkMillion -benchtime $(BENCHTIME) ./...

.PHONY: generate
generate: ## compile bpf/ into tracer/ (clang-19, llvm-19, libbpf-dev)
	@command -v $(CLANG) >/dev/null && command -v $(STRIP) >/dev/null || \
		{ echo "make generate needs clang-19 and llvm-19: apt-get install clang-19 llvm-19 libbpf-dev" >&2; exit 1; }
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(STRIP) $(GO) generate ./...

# A header alone has functions that nobody calls.
.PHONY: check-headers
check-headers: ## fail if a header of bpf/ does not compile alone, with the flags of gen.go (clang-19, libbpf-dev)
	@for h in bpf/*.h; do \
		echo "#include \"$$h\"" | $(CLANG) -target bpf -fsyntax-only $$(sed -n 's/^.*bpf2go .* -- //p' gen.go) -Wno-unused -x c - || exit 1; \
	done

# npm only fetches what package-lock.json names. The bundle is the same without it afterwards.
web/node_modules: web/package-lock.json
	npm ci --prefix web --silent
	@touch $@

.PHONY: page
page: web/node_modules ## check web/ and bundle it into internal/page/dist (npm)
	web/node_modules/.bin/tsc -p web
	rm -rf internal/page/dist
	cd web && $(GO) tool esbuild src/page.ts src/worker.ts src/page.css src/index.html src/icon.svg --bundle --minify --target=es2022 \
		--loader:.html=copy --loader:.svg=copy --legal-comments=inline --log-level=warning --outdir=../internal/page/dist
	cp web/node_modules/uplot/LICENSE internal/page/dist/uplot-license.txt

.PHONY: check-generate
check-generate: check-headers generate page ## regenerate and fail if what is committed differs
	git diff --exit-code -- tracer/bpf_bpfel.go tracer/bpf_bpfel.o internal/page/dist

.PHONY: fmt
fmt: ## fail if a Go file is not formatted, or go.mod not tidy
	@test -z "$$(gofmt -l .)" || { gofmt -l . >&2; exit 1; }
	$(GO) mod tidy -diff
	cd internal/test/browser && $(GO) mod tidy -diff
	cd web && $(GO) mod tidy -diff

.PHONY: vet
vet: ## go vet, for Linux and for systems that are not
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	cd internal/test/browser && $(GO) vet .
	cd internal/test/e2e && $(GO) vet -tags more ./...

.PHONY: check-docs
check-docs: ## fail if a document has a line over 100 columns, or a link or path that leads nowhere
	$(GO) test -count=1 ./internal/test/docs

.PHONY: check-man
check-man: ## fail if mandoc finds fault with the man page, or it differs from the command line (mandoc)
	mandoc -Tlint -Wwarning docs/finwait.1
	$(GO) test -count=1 -run TestManPage ./cmd/finwait

.PHONY: lint
lint: ## staticcheck
	$(GO) run $(STATICCHECK) ./...
	cd internal/test/browser && $(GO) run $(STATICCHECK) .
	cd internal/test/e2e && $(GO) run $(STATICCHECK) -tags more ./...

.PHONY: cross
cross: ## build for amd64 and arm64
	CGO_ENABLED=0 GOARCH=amd64 $(GO) build -o /dev/null ./cmd/finwait
	CGO_ENABLED=0 GOARCH=arm64 $(GO) build -o /dev/null ./cmd/finwait

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
