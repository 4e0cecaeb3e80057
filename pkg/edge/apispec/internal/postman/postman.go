// Package postman makes the Postman collection of the API from its OpenAPI document. The requests
// stand in an order that works: a run creates a tenant, uses every operation, and deletes the
// tenant again. Each request checks its status.
package postman

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The format: https://schema.postman.com/collection/json/v2.1.0/draft-07/docs/index.html

type collection struct {
	Info     info       `json:"info"`
	Auth     auth       `json:"auth"`
	Variable []variable `json:"variable"`
	Item     []folder   `json:"item"`
}

type info struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Schema      string `json:"schema"`
}

type auth struct {
	Type   string     `json:"type"`
	Bearer []variable `json:"bearer,omitempty"`
}

type variable struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	Type        string `json:"type,omitempty"`
	Description string `json:"description,omitempty"`
	Disabled    bool   `json:"disabled,omitempty"`
}

type folder struct {
	Name string `json:"name"`
	Item []item `json:"item"`
}

type item struct {
	Name    string  `json:"name"`
	Event   []event `json:"event"`
	Request request `json:"request"`
}

type event struct {
	Listen string `json:"listen"` // prerequest or test
	Script struct {
		Type string   `json:"type"`
		Exec []string `json:"exec"`
	} `json:"script"`
}

type request struct {
	Method      string     `json:"method"`
	Description string     `json:"description"`
	Auth        *auth      `json:"auth,omitempty"`
	Header      []variable `json:"header"`
	URL         address    `json:"url"`
	Body        *body      `json:"body,omitempty"`
}

type address struct {
	Raw      string     `json:"raw"`
	Host     []string   `json:"host"`
	Path     []string   `json:"path"`
	Query    []variable `json:"query,omitempty"`
	Variable []variable `json:"variable,omitempty"`
}

type body struct {
	Mode    string         `json:"mode"`
	Raw     string         `json:"raw"`
	Options map[string]any `json:"options"`
}

const collectionSchema = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"

// Collection returns the collection in the format 2.1. It returns the same text every time. It
// returns an error if the way of the requests and the document do not agree.
func Collection(openAPI []byte) ([]byte, error) {
	d, operations, err := read(openAPI)
	if err != nil {
		return nil, err
	}
	c := collection{
		Info:     info{Name: "Ocelot", Description: d.Info.Description, Schema: collectionSchema},
		Auth:     auth{Type: "bearer", Bearer: []variable{{Key: "token", Value: "{{token}}", Type: "string"}}},
		Variable: variables,
	}
	used := map[string]bool{}
	for _, ch := range steps() {
		f := folder{Name: ch.name}
		for i := range ch.steps {
			s := &ch.steps[i]
			op := operations[s.operation]
			if op == nil {
				return nil, fmt.Errorf("the document has no operation %s", s.operation)
			}
			used[s.operation] = true
			it, err := newItem(s, op)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.operation, err)
			}
			f.Item = append(f.Item, it)
		}
		c.Item = append(c.Item, f)
	}
	for _, id := range slices.Sorted(maps.Keys(operations)) {
		if !used[id] {
			return nil, fmt.Errorf("the collection has no request for %s: add a step", id)
		}
	}
	return encode(c)
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(v)
	return out.Bytes(), err
}

func newItem(s *step, op *operation) (item, error) {
	if op.Responses[strconv.Itoa(s.status)] == nil {
		return item{}, fmt.Errorf("the document has no answer %d", s.status)
	}
	it := item{Name: s.name, Request: request{Method: op.method, Description: op.Description, Header: []variable{}}}
	if it.Name == "" {
		it.Name = op.Summary
	}
	if len(s.before) > 0 {
		it.Event = append(it.Event, script("prerequest", s.before))
	}
	it.Event = append(it.Event, script("test", s.test()))
	switch {
	case len(op.Security) == 0:
		it.Request.Auth = &auth{Type: "noauth"}
	case s.withKey:
		it.Request.Auth = &auth{Type: "noauth"}
		it.Request.Header = append(it.Request.Header, variable{Key: "Authorization", Value: "ApiKey {{secret}}"})
	}
	var err error
	if it.Request.URL, err = addressOf(s, op); err != nil {
		return item{}, err
	}
	it.Request.Header = append(it.Request.Header, headers(s, op)...)
	it.Request.Body, err = bodyOf(s, op)
	return it, err
}

func script(listen string, lines []string) event {
	e := event{Listen: listen}
	e.Script.Type, e.Script.Exec = "text/javascript", lines
	return e
}

// maxAttempts of a request that is repeated until its effect shows, with a pause of 0.2 seconds.
const maxAttempts = 150

// test returns the script that checks an answer.
func (s *step) test() []string {
	check := []string{fmt.Sprintf(`pm.test("answers %d", () => pm.response.to.have.status(%d));`, s.status, s.status)}
	if len(s.after) > 0 || s.until != "" {
		check = append([]string{"const json = pm.response.json();"}, append(check, s.after...)...)
	}
	if s.until == "" {
		return check
	}
	script := []string{
		check[0],
		`const attempts = Number(pm.collectionVariables.get("attempts")) + 1;`,
		fmt.Sprintf("const done = pm.response.code === %d && (%s);", s.status, s.until),
		fmt.Sprintf("if (!done && attempts < %d) {", maxAttempts),
		`  pm.collectionVariables.set("attempts", attempts);`,
		"  pm.execution.setNextRequest(pm.info.requestName);",
		"  setTimeout(() => {}, 200);",
		"} else {",
		`  pm.collectionVariables.set("attempts", 0);`,
		`  pm.test("has its effect", () => pm.expect(done).to.equal(true));`,
	}
	for _, line := range check[1:] {
		script = append(script, "  "+line)
	}
	return append(script, "}")
}

// addressOf returns the address with its parameters. Those without a value are there for a
// person, and disabled.
func addressOf(s *step, op *operation) (address, error) {
	a := address{Raw: "{{baseUrl}}", Host: []string{"{{baseUrl}}"}}
	for part := range strings.SplitSeq(strings.TrimPrefix(op.path, "/"), "/") {
		if name, isParameter := strings.CutPrefix(part, "{"); isParameter {
			name = strings.TrimSuffix(name, "}")
			value, err := pathValue(op.path, name)
			if err != nil {
				return address{}, err
			}
			a.Variable = append(a.Variable, variable{Key: name, Value: value})
			part = ":" + name
		}
		a.Path = append(a.Path, part)
		a.Raw += "/" + part
	}
	separator := "?"
	for _, p := range op.Parameters {
		if p.In != "query" {
			continue
		}
		value, given := s.values[p.Name]
		a.Query = append(a.Query, variable{Key: p.Name, Value: value, Description: p.Description, Disabled: !given})
		if given {
			a.Raw += separator + p.Name + "=" + value
			separator = "&"
		}
	}
	return a, nil
}

func pathValue(path, parameter string) (string, error) {
	for _, v := range pathValues {
		if strings.HasPrefix(path, v.prefix) && parameter == v.parameter {
			return v.value, nil
		}
	}
	return "", fmt.Errorf("no variable for {%s}", parameter)
}

// headers returns the headers that are required or have a value.
func headers(s *step, op *operation) (all []variable) {
	for _, p := range op.Parameters {
		value, given := s.values[p.Name]
		if p.Name == "X-Tenant-ID" {
			value, given = "{{tenant}}", true
		}
		if p.In != "header" || !p.Required && !given {
			continue
		}
		all = append(all, variable{Key: p.Name, Value: value, Description: p.Description})
	}
	if op.Body != nil {
		all = append(all, variable{Key: "Content-Type", Value: mediaJSON})
	}
	return all
}

func bodyOf(s *step, op *operation) (*body, error) {
	if op.Body == nil {
		return nil, nil
	}
	value := op.example()
	members, isObject := s.body.(map[string]any)
	if example, ok := value.(map[string]any); ok && isObject {
		merged := maps.Clone(example)
		maps.Copy(merged, members)
		value = merged
	} else if s.body != nil {
		value = s.body
	}
	if value == nil {
		return nil, fmt.Errorf("neither the document nor the step has a body")
	}
	text, err := encode(value)
	return &body{Mode: "raw", Raw: string(bytes.TrimSpace(text)), Options: map[string]any{"raw": map[string]any{"language": "json"}}}, err
}
