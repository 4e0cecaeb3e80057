package postman

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// document is the part of an OpenAPI document that a collection is made of.
type document struct {
	Info struct {
		Description string `json:"description"`
	} `json:"info"`
	Paths map[string]map[string]*operation `json:"paths"` // path, method
}

// operation is one request that the API takes.
type operation struct {
	ID          string           `json:"operationId"`
	Summary     string           `json:"summary"`
	Description string           `json:"description"`
	Parameters  []parameter      `json:"parameters"`
	Security    []map[string]any `json:"security"` // none: public
	Responses   map[string]any   `json:"responses"`
	Body        *struct {
		Content map[string]struct {
			Examples map[string]struct {
				Value any `json:"value"`
			} `json:"examples"`
		} `json:"content"`
	} `json:"requestBody"`

	method, path string
}

type parameter struct {
	Name        string `json:"name"`
	In          string `json:"in"` // path, query or header
	Required    bool   `json:"required"`
	Description string `json:"description"`
}

// read returns the operations of a document by their ids.
func read(openAPI []byte) (*document, map[string]*operation, error) {
	var d document
	if err := json.Unmarshal(openAPI, &d); err != nil {
		return nil, nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	operations := map[string]*operation{}
	for path, methods := range d.Paths {
		for method, op := range methods {
			op.method, op.path = strings.ToUpper(method), path
			operations[op.ID] = op
		}
	}
	return &d, operations, nil
}

const mediaJSON = "application/json"

// example returns the first example of the body, nil if the operation takes none.
func (op *operation) example() any {
	if op.Body == nil {
		return nil
	}
	examples := op.Body.Content[mediaJSON].Examples
	names := slices.Sorted(maps.Keys(examples))
	if len(names) == 0 {
		return nil
	}
	return examples[names[0]].Value
}
