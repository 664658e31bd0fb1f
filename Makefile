FUZZTIME ?= 30s
SEEDS ?= 20
SEED ?= 1
JOBS ?= 2

.PHONY: demo test race lint fuzz exact bench build docs

demo:  ## the main job on embedded parts
	go run ./cmd/zyklus demo

test:  ## all tests
	go test ./...

race:  ## race detector, without the packages that start the engine
	CGO_ENABLED=1 go test -race ./pipeline/... ./operators/... ./models/... ./bench/...

lint:  ## golangci-lint v2 must be installed
	golangci-lint run

fuzz:  ## every fuzz target, half a minute each, two side by side: make fuzz FUZZTIME=10m JOBS=4
	CGO_ENABLED=0 go run ./bench/fuzz -time $(FUZZTIME) -jobs $(JOBS)

exact: ## random histories, processes and outages against the oracle: make exact SEEDS=10000 SEED=1
	@ZYKLUS_SEED=$(SEED) ZYKLUS_SEEDS=$(SEEDS) CGO_ENABLED=0 go test ./pipeline -count=1 -timeout 0 -run '^(TestEquivalence|TestLateTotals)$$'
	@bin=$$(mktemp) && trap 'rm -f $$bin' EXIT && CGO_ENABLED=0 go test -c -o $$bin ./bench/exact && \
		cd bench/exact && ZYKLUS_SEED=$(SEED) ZYKLUS_SEEDS=$(SEEDS) $$bin -test.timeout 0

bench: ## cost of each stage
	go test ./pipeline/... ./models/... ./bench/... -run '^$$' -bench . -benchmem

build: ## one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o dist/zyklus ./cmd/zyklus

docs:  ## what is generated from the code
	go run ./cmd/zyklus config reference > cmd/zyklus/CONFIG.md
