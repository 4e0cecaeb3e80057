# Everything that is done with Ocelot. `make run` and `make test` need Go alone.

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ACTIONLINT    := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0
CFN_LINT      := cfn-lint==1.58.0
SAM           := aws-sam-translator==1.110.0
SCHEMATHESIS  := schemathesis==4.32.5
CDK_CLI       := aws-cdk@2.1148.1
NEWMAN        := newman@6.2.2
COMPOSE       := github.com/compose-spec/compose-go/v2/cmd@v2.16.2

# Tools and downloads live outside the tree.
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ocelot
PYTHON  := $(CACHE)/python/bin
# Named after the versions, so that a new version is installed.
PYTHON_TOOLS := $(CACHE)/python/$(subst ==,-,$(CFN_LINT)_$(SAM)_$(SCHEMATHESIS))

LAMBDAS := $(notdir $(patsubst %/main.go,%,$(wildcard functions/*/main.go)))
ARCHES  := arm64 amd64
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/ocelot-audit/ocelot/pkg/version.linked=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help build run test test-attack fuzz engines test-engines verify generate lint vulnerabilities lint-template lint-api test-postman lambdas synth test-cdk test-deploy binaries release image bench cover clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## build bin/ocelot
	go build -trimpath -ldflags "$(LDFLAGS)" -o bin/ocelot ./cmd/ocelot

run: build ## start the service with demo data on http://127.0.0.1:8080
	bin/ocelot dev $(ARGS)

# With COVER=1, test and test-engines write a coverage profile each.
COVER_FLAGS = $(if $(COVER),-coverpkg=./... -coverprofile=bin/cover/$@.txt)

test: $(if $(COVER),bin/cover) ## run every test that needs no outside engine
	go test -timeout 40m -parallel 4 $(COVER_FLAGS) ./... # in parallel is what mainly waits

# The packages whose suites run against real engines.
ENGINE_TESTS := ./pkg/testkit/enginetest/... ./pkg/engine/mongostore ./pkg/engine/opensearchindex ./pkg/engine/sqsqueue ./pkg/engine/s3blob ./pkg/engine/kmskeys ./pkg/engine/secrets ./pkg/parquet ./pkg/wiring/... ./pkg/local/localcloud

test-attack: ## attack a running service, by the points of OWASP's API Security Top 10
	go test -count=1 -timeout 5m -v -run '^TestAttack' ./cmd/ocelot

FUZZTIME := 30s

fuzz: ## run every fuzz target for FUZZTIME, two at once
	sh scripts/fuzz.sh $(FUZZTIME)

engines: ## fetch the engines of test-engines ahead (Java 17, Maven, Python 3)
	go run ./pkg/testkit/enginetest/cmd/engines

# What runs on the embedded engine in each of these packages is a part of test.
EMBEDDED_WAYS := /^(in_process|lambda|embedded|with_a_log_in_the_folder)$$

test-engines: engines $(if $(COVER),bin/cover) ## run the conformance, fault and end-to-end suites against real engines
	OCELOT_TEST_ENGINES=1 go test -count=1 -timeout 40m -p 2 -parallel 3 -skip '$(EMBEDDED_WAYS)' $(COVER_FLAGS) $(ENGINE_TESTS)

bin/cover:
	mkdir -p $@

cover: ## print the statement coverage of both, which must have run with COVER=1; at least 85 %
	sh scripts/cover.sh 85 bin/cover/test.txt bin/cover/test-engines.txt

verify: lint vulnerabilities lint-template lint-api ## check format, code, generated files, template and API description

generate: ## write the generated files again
	go generate ./pkg/wiring/mains # first: others run what it writes
	go generate ./...
	cd cdk && go mod tidy # it lists the modules of the packages that it imports

# What says that generated files are current, and that the manifest is whole.
FRESH_TESTS := Test[A-Za-z]*(Current|Fresh)\b|TestManifest

lint:
	@files=$$(gofmt -l .) && test -z "$$files" || { echo "gofmt: not formatted: $$files" >&2; exit 1; }
	go vet ./...
	go vet -tags embedded ./functions/... ./pkg/wiring/...
	go mod tidy -diff
	go run $(GOLANGCI_LINT) run
	go run $(GOLANGCI_LINT) run --build-tags embedded ./functions/... ./pkg/wiring/...
	cd cdk && go vet ./... && go mod tidy -diff && go run $(GOLANGCI_LINT) run
	OCELOT_TEST_WALLS=1 go test -count=1 ./internal/walls
	go run $(ACTIONLINT) .github/workflows/*.yml
	go run $(COMPOSE) docker-compose.yml >/dev/null
	go test -count=1 -run '$(FRESH_TESTS)' $$(grep -rlE '^func ($(FRESH_TESTS))' --include='*_test.go' cmd events internal pkg | xargs -n1 dirname | sort -u | sed 's|^|./|')

vulnerabilities:
	@if out=$$(go run $(GOVULNCHECK) ./... 2>&1); then echo "govulncheck: nothing found"; \
	elif echo "$$out" | grep -qE 'fetching|dial tcp|no such host|Forbidden|connection refused|403|timeout'; then \
		echo "govulncheck: the vulnerability database cannot be reached from here, not checked"; \
	else echo "$$out"; exit 1; fi

$(PYTHON_TOOLS):
	python3 -m venv $(CACHE)/python
	$(PYTHON)/pip install --quiet --disable-pip-version-check $(CFN_LINT) $(SAM) $(SCHEMATHESIS)
	touch $@

lint-template: $(PYTHON_TOOLS)
	$(PYTHON)/python scripts/sam-transform.py template.yaml
	$(PYTHON)/cfn-lint template.yaml

lint-api: build $(PYTHON_TOOLS)
	PATH="$(PYTHON):$$PATH" sh scripts/with-service.sh sh scripts/lint-api.sh

NEWMAN_PROGRAM := $(CACHE)/node/$(NEWMAN)/node_modules/.bin/newman

$(NEWMAN_PROGRAM):
	npm install --silent --no-fund --no-audit --prefix $(CACHE)/node/$(NEWMAN) $(NEWMAN)

test-postman: build $(NEWMAN_PROGRAM) ## run the Postman collection against a service (Node)
	sh scripts/with-service.sh sh scripts/test-postman.sh $(NEWMAN_PROGRAM)

lambdas: $(foreach arch,$(ARCHES),$(foreach name,$(LAMBDAS),bin/lambdas/$(arch)/$(name)/bootstrap)) ## build every function for arm64 and amd64
	@sh scripts/check-sizes.sh bin/lambdas

# nethttpomithttp2: functions call their stores over HTTP/1.1, which all of these speak. That leaves out
# 360 KB of code.
bin/lambdas/%/bootstrap: FORCE
	@GOOS=linux GOARCH=$(firstword $(subst /, ,$*)) CGO_ENABLED=0 go build -trimpath -tags lambda.norpc,nethttpomithttp2 -ldflags "$(LDFLAGS)" -o $@ ./functions/$(lastword $(subst /, ,$*))

.PHONY: FORCE
FORCE:

# The CDK is a module of its own. Its node process starts before main, so that node's settings
# are variables here. Everything is synthesised from the bootstraps alone: no account, no
# network, no Docker.
CDK_ENV := JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20

synth: $(foreach name,$(LAMBDAS),bin/lambdas/arm64/$(name)/bootstrap) ## write the CloudFormation templates of every environment to cdk/cdk.out (Node)
	rm -rf cdk/cdk.out
	cd cdk && $(CDK_ENV) CDK_OUTDIR=cdk.out CDK_CONTEXT_JSON='{"@aws-cdk/core:validateAgainstDefaultRules": true}' go run .

# E3703, W3005 and W6001 are about how the CDK writes. W3010: zones are named on purpose.
CDK_LINT_IGNORES := E3703 W3005 W3010 W6001

cdk/cdk.out/manifest.json:
	$(MAKE) synth

test-cdk: cdk/cdk.out/manifest.json $(PYTHON_TOOLS) ## check the templates: assertions with their mutations, cdk-nag, cfn-lint (Node, Python 3)
	cd cdk && $(CDK_ENV) CDK_VALIDATION=false go test -count=1 -timeout 10m ./...
	$(PYTHON)/cfn-lint --ignore-checks $(CDK_LINT_IGNORES) -- cdk/cdk.out/*.template.json cdk/cdk.out/assembly-*/*.template.json

CDK_PROGRAM := $(CACHE)/node/$(CDK_CLI)/node_modules/.bin/cdk

$(CDK_PROGRAM):
	npm install --silent --no-fund --no-audit --prefix $(CACHE)/node/$(CDK_CLI) $(CDK_CLI)

HOST_ARCH := $(shell go env GOARCH)

test-deploy: $(CDK_PROGRAM) $(foreach name,$(LAMBDAS),bin/lambdas/$(HOST_ARCH)/$(name)/bootstrap) ## deploy the stacks and template.yaml into an emulator of AWS and use them (Node, Java 17, Maven, Python 3)
	go run ./pkg/testkit/enginetest/cmd/engines mongo opensearch ministack
	cd cdk && $(CDK_ENV) CDK_VALIDATION=false OCELOT_TEST_ENGINES=1 OCELOT_TEST_DEPLOY=1 OCELOT_CDK_CLI=$(CDK_PROGRAM) \
		go test -count=1 -timeout 15m -v -run '^(TestDeployment|TestSAMTemplate)$$' .

PLATFORMS := $(foreach os,linux darwin windows,$(os)/amd64 $(os)/arm64)

binaries: $(addprefix binary/,$(PLATFORMS)) ## check that the command line builds for every platform

binary/%: FORCE
	@GOOS=$(firstword $(subst /, ,$*)) GOARCH=$(lastword $(subst /, ,$*)) CGO_ENABLED=0 go build -trimpath -o /dev/null ./cmd/ocelot

release: ## make the archives, checksums and lists of parts of a release in bin/release
	go run ./internal/release -version "$(VERSION)" -epoch "$$(git log -1 --format=%ct)" -out bin/release

image: release ## build the container image of the embedded service (Docker)
	docker build --file Dockerfile --tag "ocelot:$(VERSION)" --tag ocelot:latest bin/release/image

bench: ## measure and write docs/performance.md, docs/scale.md and docs/queries.md (Java 17, Maven)
	go run ./cmd/bench
	go run ./pkg/testkit/enginetest/cmd/engines with opensearch -- go run ./cmd/bench -only queries

clean: ## remove what was built
	rm -rf bin cdk/cdk.out
