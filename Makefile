# Start with make demo. It needs Debian, Go and gcc, and installs everything else that it uses.

GO ?= go

.DEFAULT_GOAL := build
.PHONY: build demo test unit vm stress-host check fuzz abi docs-workers shell emuhost clean

# Without GODEBUG=disablethp=1 a heap of a few hundred KiB takes two huge pages, permanently. //go:debug
# does not support this setting.
SMALL = -X runtime.godebugDefault=disablethp=1

INIT = guestimages/initbin/init

build: ## build a static build/minivmm that contains the guests' init
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags='-s -w' -o $(INIT).bin ./guestimages/init
	sha256sum $(INIT).bin | cut -c1-64 | tr -d '\n' > $(INIT).sum
	CGO_ENABLED=0 $(GO) build -trimpath -tags embedinit -ldflags='$(SMALL)' -o build/minivmm ./cmd/minivmm

demo: ## run a real guest under load: rates, checksums, exits, workers
	$(GO) run ./internal/testbed/cmd/demo

test: check build ## run all tests: with the race detector here, with KVM and vhost in the emulated host
	$(GO) run ./internal/testbed/cmd/maketest test

unit: ## run the tests that need no emulated host, with the race detector
	$(GO) run ./internal/testbed/cmd/maketest unit

KERNEL ?= 6.12
PKG ?= ./vmm
vm: build ## test one package in one emulated host: PKG=./vmm RUN=TestX KERNEL=6.1
	$(GO) run ./internal/testbed/cmd/maketest vm '$(KERNEL)' '$(PKG)' '$(RUN)'

STARTS ?= 500
GUESTS ?= 200
stress-host: build ## test the emulated host itself: a guest under load, STARTS starts, half of them on a loaded machine, and GUESTS guests with 4 CPUs
	$(GO) run ./internal/testbed/cmd/maketest stress-host $(STARTS) $(GUESTS)

check: ## check formatting, go vet and modules
	@unformatted="$$(gofmt -l .)"; test -z "$$unformatted" || { echo "gofmt -w: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) mod verify
	$(GO) mod tidy -diff

FUZZTIME ?= 5s
fuzz: ## run each fuzz target for FUZZTIME
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's|/[^/]*:func | |' | while read -r dir target; do \
		echo "== $$dir $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$dir < /dev/null || exit; \
	done

# abi.c prints "absent NAME" if this machine's headers are too old for NAME: its old line stays.
abi: ## regenerate testdata/abi.golden in kvm/ and vhost/ from this machine's kernel headers
	mkdir -p build
	for golden in kvm/testdata/abi.golden vhost/testdata/abi.golden; do \
		gcc -o build/abi $${golden%golden}c && build/abi > build/abi.new || exit; \
		awk 'NR == FNR { old[$$2] = $$0; next } $$1 == "absent" && old[$$2] { $$0 = old[$$2] } 1' $$golden build/abi.new > build/abi.golden && \
			cp build/abi.golden $$golden || exit; \
	done

docs-workers: emuhost ## regenerate the table in docs/workers.md on all kernels of the emulated host
	for kernel in 6.1 6.12 newest; do \
		CGO_ENABLED=0 MINIVMM_REQUIRE=vhost-net,vhost-scsi $(GO) test -count=1 \
			-exec "$(CURDIR)/build/emuhost exec -kernel $$kernel -share $(CURDIR)/docs" ./internal/testbed/proof -run TestPromises -update || exit; \
	done

shell: build emuhost ## start a shell in the emulated host, with minivmm in its PATH
	PATH="$(CURDIR)/build:$$PATH" build/emuhost run -- bash

emuhost:
	$(GO) build -o build/emuhost ./internal/testbed/cmd/emuhost

clean:
	rm -rf build examples/build $(INIT).bin $(INIT).sum
