package httpapi

// schema is the part of JSON Schema 2020-12 that this API is described with.
// It keeps the order of fields, which the documentation page shows.
type schema struct {
	ref         string // name of a component; the other members are then unused but for description
	kind        string // string, integer, number, boolean, object, array; "": anything
	nullable    bool
	description string
	format      string
	pattern     string
	enum        []string
	minLength   int
	maxLength   int
	minimum     *int64
	maximum     *int64
	items       *schema
	minItems    int
	maxItems    int
	unique      bool
	fields      []field
	open        bool    // an object that takes members beside its fields
	values      *schema // of the members of an open object; nil: anything
	names       string  // pattern of the names of an open object's members
	anyOf       []*schema
	initial     any // the default
}

// field is a member of an object.
type field struct {
	name     string
	required bool
	schema   *schema
}

// document returns the schema as JSON Schema.
func (s *schema) document() map[string]any {
	d := map[string]any{}
	put := func(name string, value any, set bool) {
		if set {
			d[name] = value
		}
	}
	put("description", s.description, s.description != "")
	if s.ref != "" {
		d["$ref"] = "#/components/schemas/" + s.ref
		return d
	}
	put("type", s.kind, s.kind != "" && !s.nullable)
	put("type", []string{s.kind, "null"}, s.nullable)
	put("format", s.format, s.format != "")
	put("pattern", s.pattern, s.pattern != "")
	put("enum", s.choices(), len(s.enum) > 0)
	put("minLength", s.minLength, s.minLength > 0)
	put("maxLength", s.maxLength, s.maxLength > 0)
	put("minimum", s.minimum, s.minimum != nil)
	put("maximum", s.maximum, s.maximum != nil)
	put("minItems", s.minItems, s.minItems > 0)
	put("maxItems", s.maxItems, s.maxItems > 0)
	put("uniqueItems", true, s.unique)
	put("default", s.initial, s.initial != nil)
	if s.items != nil {
		d["items"] = s.items.document()
	}
	if len(s.anyOf) > 0 {
		d["anyOf"] = documents(s.anyOf)
	}
	if s.kind == "object" {
		s.documentObject(d)
	}
	return d
}

// choices are the values of the enum, with null where that is allowed.
func (s *schema) choices() []any {
	values := make([]any, 0, len(s.enum)+1)
	for _, v := range s.enum {
		values = append(values, v)
	}
	if s.nullable {
		values = append(values, nil)
	}
	return values
}

func (s *schema) documentObject(d map[string]any) {
	properties := map[string]any{}
	required := []string{}
	for _, f := range s.fields {
		properties[f.name] = f.schema.document()
		if f.required {
			required = append(required, f.name)
		}
	}
	if len(properties) > 0 {
		d["properties"] = properties
	}
	if len(required) > 0 {
		d["required"] = required
	}
	switch {
	case !s.open:
		d["additionalProperties"] = false
	case s.values != nil:
		d["additionalProperties"] = s.values.document()
	default:
		d["additionalProperties"] = true
	}
	if s.names != "" {
		d["propertyNames"] = map[string]any{"pattern": s.names}
	}
}

func documents(schemas []*schema) []any {
	out := make([]any, len(schemas))
	for i, s := range schemas {
		out[i] = s.document()
	}
	return out
}

// The small schemas that others are made of.

func ref(name string) *schema { return &schema{ref: name} }

func str(description string) *schema { return &schema{kind: "string", description: description} }

func text(limit int, description string) *schema {
	return &schema{kind: "string", maxLength: limit, description: description}
}

func choice(description string, values ...string) *schema {
	return &schema{kind: "string", enum: values, description: description}
}

func integer(minimum, maximum int64, description string) *schema {
	return &schema{kind: "integer", minimum: &minimum, maximum: &maximum, description: description}
}

func count(description string) *schema {
	zero := int64(0)
	return &schema{kind: "integer", minimum: &zero, description: description}
}

func boolean(description string) *schema { return &schema{kind: "boolean", description: description} }

func moment(description string) *schema {
	return &schema{kind: "string", format: "date-time", description: description}
}

func list(items *schema) *schema { return &schema{kind: "array", items: items} }

func object(fields ...field) *schema { return &schema{kind: "object", fields: fields} }

func must(name string, s *schema) field { return field{name: name, required: true, schema: s} }

func may(name string, s *schema) field { return field{name: name, schema: s} }

// orNull returns the schema with null as another way to leave a field out.
func (s *schema) orNull() *schema {
	changed := *s
	changed.nullable = true
	return &changed
}

// says returns the schema with a description.
func (s *schema) says(description string) *schema {
	changed := *s
	changed.description = description
	return &changed
}

// otherwise returns the schema with a default.
func (s *schema) otherwise(initial any) *schema {
	changed := *s
	changed.initial = initial
	return &changed
}
