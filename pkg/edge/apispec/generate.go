package apispec

import _ "embed" // for the generated files

// The order matters: the examples are recorded from the handlers, the document
// is written with the examples, the Postman collection from the document, and the
// documentation page with both.
//
//go:generate go test ../httpapi -run ^TestExamplesAreCurrent$ -count 1 -record
//go:generate go run ./internal/genopenapi openapi.json
//go:generate go run ./internal/genpostman ../../../docs/ocelot.postman_collection.json
//go:generate go generate ../apidocs

//go:embed openapi.json
var openAPIFile []byte

//go:embed examples.json
var examplesFile []byte
