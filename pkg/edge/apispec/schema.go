package apispec

import "fmt"

// Schema is the part of JSON Schema 2020-12 that describes this API. Unlike a
// JSON object, it keeps the order of properties, which the documentation page shows.
type Schema struct {
	Ref                  string // name of a Component; then only Description counts as well
	Type                 string // string, integer, number, boolean, object or array; "": any value
	Nullable             bool   // null is allowed as well
	Description          string
	Format               string
	Pattern              string
	Enum                 []string
	MinLength, MaxLength int // 0: no limit
	Minimum, Maximum     *int64
	Items                *Schema // of an array
	MinItems, MaxItems   int     // 0: no limit
	UniqueItems          bool
	Properties           []Property // of an object
	Open                 bool       // an object that allows members other than Properties
	AdditionalProperties *Schema    // of the other members of an open object; nil: any value
	PropertyNames        string     // pattern of the names of those members; "": any name
	MinProperties        int        // 0: no limit
	MaxProperties        int        // 0: no limit
	AnyOf                []*Schema
	Default              any // nil: none
}

// Property is a member of an object.
type Property struct {
	Name     string
	Required bool
	Schema   *Schema
}

// document returns the schema as JSON Schema.
func (s *Schema) document() map[string]any {
	d := map[string]any{}
	put := func(name string, value any, set bool) {
		if set {
			d[name] = value
		}
	}
	put("description", s.Description, s.Description != "")
	if s.Ref != "" {
		d["$ref"] = "#/components/schemas/" + s.Ref
		return d
	}
	put("type", s.Type, s.Type != "" && !s.Nullable)
	put("type", []string{s.Type, "null"}, s.Nullable)
	put("format", s.Format, s.Format != "")
	put("pattern", s.Pattern, s.Pattern != "")
	put("enum", s.choices(), len(s.Enum) > 0)
	put("minLength", s.MinLength, s.MinLength > 0)
	put("maxLength", s.MaxLength, s.MaxLength > 0)
	put("minimum", s.Minimum, s.Minimum != nil)
	put("maximum", s.Maximum, s.Maximum != nil)
	put("minItems", s.MinItems, s.MinItems > 0)
	put("maxItems", s.MaxItems, s.MaxItems > 0)
	put("minProperties", s.MinProperties, s.MinProperties > 0)
	put("maxProperties", s.MaxProperties, s.MaxProperties > 0)
	put("uniqueItems", true, s.UniqueItems)
	put("default", s.Default, s.Default != nil)
	if s.Items != nil {
		d["items"] = s.Items.document()
	}
	if len(s.AnyOf) > 0 {
		d["anyOf"] = documents(s.AnyOf)
	}
	if s.Type == "object" {
		s.documentObject(d)
	}
	return d
}

// choices returns the values of the enum, null included if the schema allows it.
func (s *Schema) choices() []any {
	values := make([]any, 0, len(s.Enum)+1)
	for _, v := range s.Enum {
		values = append(values, v)
	}
	if s.Nullable {
		values = append(values, nil)
	}
	return values
}

// documentObject adds the keywords of an object.
func (s *Schema) documentObject(d map[string]any) {
	properties := map[string]any{}
	required := []string{}
	for _, f := range s.Properties {
		properties[f.Name] = f.Schema.document()
		if f.Required {
			required = append(required, f.Name)
		}
	}
	if len(properties) > 0 {
		d["properties"] = properties
	}
	if len(required) > 0 {
		d["required"] = required
	}
	switch {
	case !s.Open:
		d["additionalProperties"] = false
	case s.AdditionalProperties != nil:
		d["additionalProperties"] = s.AdditionalProperties.document()
	default:
		d["additionalProperties"] = true
	}
	if s.PropertyNames != "" {
		d["propertyNames"] = map[string]any{"pattern": s.PropertyNames}
	}
}

func documents(schemas []*Schema) []any {
	out := make([]any, len(schemas))
	for i, s := range schemas {
		out[i] = s.document()
	}
	return out
}

// Constructors of the schemas that others are made of.

func ref(name string) *Schema { return &Schema{Ref: name} }

func anyText(description string) *Schema { return &Schema{Type: "string", Description: description} }

// text is a string of at most limit bytes.
func text(limit int, description string) *Schema {
	return &Schema{Type: "string", MaxLength: limit, Description: limitBytes(description, limit)}
}

// nonEmptyText is a string of 1 to limit bytes.
func nonEmptyText(limit int, description string) *Schema {
	s := text(limit, description)
	s.MinLength = 1
	return s
}

func limitBytes(description string, limit int) string {
	return fmt.Sprintf("%s At most %d bytes of UTF-8.", description, limit)
}

func oneOf(description string, values ...string) *Schema {
	return &Schema{Type: "string", Enum: values, Description: description}
}

func integer(minimum, maximum int64, description string) *Schema {
	return &Schema{Type: "integer", Minimum: &minimum, Maximum: &maximum, Description: description}
}

func count(description string) *Schema {
	return &Schema{Type: "integer", Minimum: new(int64), Description: description}
}

func boolean(description string) *Schema { return &Schema{Type: "boolean", Description: description} }

func timestamp(description string) *Schema {
	return &Schema{Type: "string", Format: "date-time", Description: description}
}

func list(items *Schema) *Schema { return &Schema{Type: "array", Items: items} }

func object(properties ...Property) *Schema { return &Schema{Type: "object", Properties: properties} }

// anyObject is an object with any members.
func anyObject(description string) *Schema {
	return &Schema{Type: "object", Open: true, Description: description}
}

func required(name string, s *Schema) Property {
	return Property{Name: name, Required: true, Schema: s}
}

func optional(name string, s *Schema) Property { return Property{Name: name, Schema: s} }

// orNull returns the schema with null as another way to leave the value out.
func (s *Schema) orNull() *Schema {
	changed := *s
	changed.Nullable = true
	return &changed
}

// withDescription returns the schema with this description.
func (s *Schema) withDescription(description string) *Schema {
	changed := *s
	changed.Description = description
	return &changed
}

// withDefault returns the schema with this default; nil: without one.
func (s *Schema) withDefault(value any) *Schema {
	changed := *s
	changed.Default = value
	return &changed
}
