package envelope

import (
	"encoding/json"

	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// traces are the traces in a message, each as a traceparent of W3C Trace Context.
type traces []trace.Trace

// MarshalJSON implements json.Marshaler.
func (t traces) MarshalJSON() ([]byte, error) {
	const size = len(`"00-00000000000000000000000000000000-0000000000000000-00",`)
	return t.append(make([]byte, 0, size*len(t)+2)), nil
}

// append appends the JSON array of the traces. Their texts need no escapes.
func (t traces) append(b []byte) []byte {
	b = append(b, '[')
	for i, one := range t {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), one.String()...), '"')
	}
	return append(b, ']')
}

// UnmarshalJSON implements json.Unmarshaler. It passes over what names no trace: a message is
// not worth less without it.
func (t *traces) UnmarshalJSON(text []byte) error {
	var all []string
	*t = nil
	if json.Unmarshal(text, &all) != nil {
		return nil //nolint:nilerr // see above
	}
	for _, one := range all {
		if parsed, ok := trace.Parse(one); ok {
			*t = append(*t, parsed)
		}
	}
	return nil
}

// Traces returns the traces of a message of any queue, none if the message cannot be read.
func Traces(body string) []trace.Trace {
	var m struct {
		Traces   traces
		Messages []struct{ Traces traces }
	}
	if json.Unmarshal([]byte(body), &m) != nil {
		return nil
	}
	lists := [][]trace.Trace{m.Traces}
	for _, part := range m.Messages {
		lists = append(lists, part.Traces)
	}
	return trace.Merge(lists...)
}
