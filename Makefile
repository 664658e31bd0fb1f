.PHONY: demo test race lint fuzz bench build

demo:  ## the main job on embedded parts
	go run ./cmd/zyklus demo

test:  ## all tests
	go test ./...

race:  ## race detector, without the packages that start the engine
	CGO_ENABLED=1 go test -race ./pipeline/... ./operators/... ./models/... ./bench/...

lint:  ## golangci-lint v2 must be installed
	golangci-lint run

fuzz:  ## each decoder for half a minute
	for f in FuzzDecode FuzzCloudEvents FuzzMapped FuzzParseMapping FuzzCSVRecord; do \
		go test ./pipeline/codec -run '^$$' -fuzz "^$$f$$" -fuzztime 30s || exit 1; \
	done

bench: ## cost of each stage
	go test ./pipeline/... ./models/... ./bench/... -run '^$$' -bench . -benchmem

build: ## one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o dist/zyklus ./cmd/zyklus
