// Package trace follows a request from step to step. Each request has a trace id, which passes
// through the queues in the messages of its entries. It is in the log lines of every step. For
// requests that are sampled, each step also sends segments to the daemon of AWS X-Ray.
//
// The ids are those of X-Ray, which are also valid in W3C Trace Context:
//
//	https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html
//	https://www.w3.org/TR/trace-context/
package trace

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// The headers that name a request's trace.
const (
	Header    = "X-Amzn-Trace-Id" // of X-Ray; see Trace.Header
	W3CHeader = "Traceparent"     // of W3C Trace Context; see Trace.String
)

// rootPrefix is the version of X-Ray's ids.
const rootPrefix = "1-"

// Trace is the trace of a request, and the place in it at which the next step continues.
type Trace struct {
	ID      ID
	Parent  SpanID // the segment of the step before; zero: there is none
	Sampled bool   // segments of it are recorded
}

// ID is the id of a trace. Its first four bytes are the seconds of the Unix time at which it
// was made, unless another system made it.
type ID [16]byte

// SpanID is the id of a segment.
type SpanID [8]byte

// String returns the id as X-Ray shows it: 1-58406520-a006649127e371903a2de979.
func (id ID) String() string {
	text := hex.EncodeToString(id[:])
	return rootPrefix + text[:8] + "-" + text[8:]
}

func (id SpanID) String() string { return hex.EncodeToString(id[:]) }

// New returns a trace that begins now and is not sampled. random fills b with random bytes.
func New(now time.Time, random func(b []byte)) Trace {
	var t Trace
	binary.BigEndian.PutUint32(t.ID[:4], uint32(now.Unix()))
	random(t.ID[4:])
	random(t.Parent[:])
	return t
}

// Header returns the trace as the value of the header X-Amzn-Trace-Id.
func (t Trace) Header() string {
	var b strings.Builder
	b.WriteString("Root=" + t.ID.String())
	if t.Parent != (SpanID{}) {
		b.WriteString(";Parent=" + t.Parent.String())
	}
	if t.Sampled {
		b.WriteString(";Sampled=1")
	} else {
		b.WriteString(";Sampled=0")
	}
	return b.String()
}

// ParseHeader reads the value of the header X-Amzn-Trace-Id. It returns false if the value names
// no trace. Fields that it does not know are passed over.
func ParseHeader(text string) (t Trace, ok bool) {
	for field := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Root":
			root, versioned := strings.CutPrefix(value, rootPrefix)
			first, last, _ := strings.Cut(root, "-")
			ok = versioned && len(first) == 8 && decode(t.ID[:], first+last)
		case "Parent":
			if !decode(t.Parent[:], value) {
				t.Parent = SpanID{}
			}
		case "Sampled":
			t.Sampled = value == "1"
		}
	}
	if !ok || t.ID == (ID{}) {
		return Trace{}, false
	}
	return t, true
}

// The layout of a traceparent of version 00: 00-<trace id>-<parent id>-<flags>.
const (
	w3cVersion = "00-"
	w3cLength  = 55
	sampled    = 1 // flag
)

// String returns the trace as a traceparent of W3C Trace Context.
func (t Trace) String() string {
	text := make([]byte, 0, w3cLength)
	text = append(text, w3cVersion...)
	text = append(hex.AppendEncode(text, t.ID[:]), '-')
	text = append(hex.AppendEncode(text, t.Parent[:]), "-00"...)
	if t.Sampled {
		text[w3cLength-1] = '1'
	}
	return string(text)
}

// Parse reads what String returns. A later version of a traceparent may have more after that.
func Parse(text string) (t Trace, ok bool) {
	if len(text) < w3cLength || text[2] != '-' || text[35] != '-' || text[52] != '-' {
		return Trace{}, false
	}
	version, more := text[:3], text[w3cLength:]
	if version == "ff-" || version == w3cVersion && more != "" || more != "" && more[0] != '-' {
		return Trace{}, false
	}
	var head, flags [1]byte
	if !decode(head[:], text[:2]) || !decode(t.ID[:], text[3:35]) || !decode(t.Parent[:], text[36:52]) || !decode(flags[:], text[53:w3cLength]) {
		return Trace{}, false
	}
	t.Sampled = flags[0]&sampled != 0
	return t, t.ID != ID{}
}

// decode reads lower-case hexadecimal digits that fill to.
func decode(to []byte, text string) bool {
	if len(text) != hex.EncodedLen(len(to)) || strings.ContainsAny(text, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(to, []byte(text))
	return err == nil
}

// Merge returns the traces of all lists in their order, each once.
func Merge(lists ...[]Trace) []Trace {
	if len(lists) == 1 && len(lists[0]) < 2 {
		return lists[0]
	}
	var all []Trace
	seen := map[ID]bool{}
	for _, traces := range lists {
		for _, t := range traces {
			if !seen[t.ID] {
				seen[t.ID] = true
				all = append(all, t)
			}
		}
	}
	return all
}

type contextKey struct{}

// With returns a context in which work is done for a trace.
func With(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, contextKey{}, t)
}

// WithFirst returns a context in which work is done for the first of the traces: a call can be
// part of one trace only. Without traces it returns ctx.
func WithFirst(ctx context.Context, traces []Trace) context.Context {
	if len(traces) == 0 {
		return ctx
	}
	return With(ctx, traces[0])
}

// From returns the trace for which work is done in the context.
func From(ctx context.Context) (Trace, bool) {
	t, has := ctx.Value(contextKey{}).(Trace)
	return t, has
}
