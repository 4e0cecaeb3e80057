package httpapi

import _ "embed" // for the generated files

// First the examples are recorded from the handlers themselves, then the
// document is written with them.
//
//go:generate go test -run ^TestExamples$ -count 1 . -record
//go:generate go run ./internal/genopenapi openapi.json

//go:embed openapi.json
var openAPIFile []byte

//go:embed examples.json
var examplesFile []byte
