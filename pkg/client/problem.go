package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Problem is an answer with an error status. It has the service's problem document, or what is
// known of an answer without one.
type Problem struct {
	Type      string             `json:"type"`
	Title     string             `json:"title"`
	Status    int                `json:"status"`
	Detail    string             `json:"detail"`
	RequestID string             `json:"request_id"`
	Fields    []audit.FieldError `json:"errors"`
	// RetryAfter is how long the service asks to wait; zero if it does not say.
	RetryAfter time.Duration `json:"-"`
}

// Error is one line: status, detail, faulty fields and request id.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", p.Status, p.Title)
	if reason := p.Reason(); reason != "" {
		b.WriteString(": " + reason)
	}
	if p.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", p.RequestID)
	}
	return b.String()
}

// Reason returns the faulty fields, or the detail if none is named.
func (p *Problem) Reason() string {
	if len(p.Fields) == 0 {
		return p.Detail
	}
	parts := make([]string, len(p.Fields))
	for i, f := range p.Fields {
		if parts[i] = f.Detail; f.Pointer != "" {
			parts[i] = f.Pointer + ": " + f.Detail
		}
	}
	return strings.Join(parts, "; ")
}

// problemFrom reads an answer outside 2xx.
func problemFrom(response *http.Response, body []byte) *Problem {
	p := &Problem{}
	mediaType, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(mediaType) != "application/problem+json" || json.Unmarshal(body, p) != nil {
		*p = Problem{Detail: "the answer is not a problem document. Is this address an Ocelot service?"}
		if location := response.Header.Get("Location"); location != "" {
			p.Detail = "the service redirects to " + location + "; use that address"
		}
	}
	p.Status = response.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	if p.RequestID == "" {
		p.RequestID = response.Header.Get(manifest.RequestIDHeader)
	}
	p.RetryAfter = retryAfter(response.Header.Get("Retry-After"), response.Header.Get("Date"))
	return p
}

// retryAfter reads the seconds or the date of the header. A date is relative to the service's
// own clock, if the answer has it. It returns zero if the header is missing or malformed.
func retryAfter(value, date string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(date)
	if err != nil {
		now = time.Now()
	}
	return max(0, at.Sub(now))
}
