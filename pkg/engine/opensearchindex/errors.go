package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// errTimeout replaces a context's deadline error if the context belonged to one
// attempt. A retry may succeed.
var errTimeout = errors.New("OpenSearch does not answer in time")

// errLargeResponse means that a response is larger than its request allows.
var errLargeResponse = errors.New("OpenSearch's answer is too large")

// responseError is a response without a 2xx status. Its text has no content of entries.
type responseError struct {
	status int
	kinds  []string // OpenSearch's types of the error, its root causes and its causes
	reason string   // may have content of entries
}

func (e *responseError) Error() string {
	if len(e.kinds) == 0 {
		return fmt.Sprintf("OpenSearch answers %d", e.status)
	}
	return fmt.Sprintf("OpenSearch answers %d %s", e.status, e.kinds[0])
}

// has reports whether the error has one of the kinds.
func (e *responseError) has(kinds ...string) bool {
	return slices.ContainsFunc(kinds, func(kind string) bool { return slices.Contains(e.kinds, kind) })
}

// withReason adds OpenSearch's reason to the error. It is only for requests
// without content of entries.
func withReason(err error) error {
	var response *responseError
	if errors.As(err, &response) && response.reason != "" {
		return fmt.Errorf("%w: %s", err, response.reason)
	}
	return err
}

// errorDetail is an error as OpenSearch describes it.
type errorDetail struct {
	Type         string        `json:"type"`
	Reason       string        `json:"reason"`
	RootCause    []errorDetail `json:"root_cause"`
	CausedBy     *errorDetail  `json:"caused_by"`
	FailedShards []struct {
		Reason errorDetail `json:"reason"`
	} `json:"failed_shards"`
}

func newResponseError(status int, body []byte) *responseError {
	var described struct {
		Error errorDetail `json:"error"`
	}
	// Proxies answer in other forms, and OpenSearch returns some errors as plain
	// strings. Then only the status is known.
	if err := json.Unmarshal(body, &described); err != nil {
		return &responseError{status: status}
	}
	return &responseError{status: status, kinds: described.Error.appendKinds(nil), reason: described.Error.Reason}
}

// appendKinds appends the types of the error and its causes, each once.
func (d *errorDetail) appendKinds(kinds []string) []string {
	if d.Type != "" && !slices.Contains(kinds, d.Type) {
		kinds = append(kinds, d.Type)
	}
	for i := range d.RootCause {
		kinds = d.RootCause[i].appendKinds(kinds)
	}
	for i := range d.FailedShards {
		kinds = d.FailedShards[i].Reason.appendKinds(kinds)
	}
	if d.CausedBy != nil {
		kinds = d.CausedBy.appendKinds(kinds)
	}
	return kinds
}

const (
	kindNotFound       = "index_not_found_exception"
	kindExists         = "resource_already_exists_exception"
	kindClosed         = "index_closed_exception"
	kindBlocked        = "cluster_block_exception"
	kindTooManyBuckets = "too_many_buckets_exception"
)

// complexityKinds are the errors of queries that are too complex.
func complexityKinds() []string {
	return []string{"too_many_clauses", "too_many_nested_clauses", "too_complex_to_determinize_exception"}
}

// requestErrorKinds are the errors that the request itself causes: it asks for
// too much, or this package wrote an invalid query.
func requestErrorKinds() []string {
	return append(complexityKinds(), kindTooManyBuckets, "parsing_exception", "x_content_parse_exception", "json_parse_exception")
}

// documentErrorKinds are the errors that the document itself causes.
func documentErrorKinds() []string {
	return []string{
		"mapper_parsing_exception", "document_parsing_exception", "strict_dynamic_mapping_exception", "parse_exception", "parsing_exception",
		"x_content_parse_exception", "max_bytes_length_exceeded_exception",
	}
}

// isNotFound reports whether the error says that an index or alias does not exist.
func isNotFound(err error) bool {
	var response *responseError
	return errors.As(err, &response) && response.status == http.StatusNotFound && response.has(kindNotFound)
}

// isTemporary reports whether a retry may succeed.
func isTemporary(err error) bool {
	var response *responseError
	switch {
	case errors.As(err, &response):
		return isTemporaryStatus(response.status) && !response.has(kindTooManyBuckets)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errLargeResponse):
		return false
	}
	return true // an error of the connection
}

func isTemporaryStatus(status int) bool {
	return status == http.StatusTooManyRequests || status >= 500
}

// asUnavailable makes an error an *audit.UnavailableError, so that other stores
// can answer and writers retry. It leaves a cancelled context and errors of the
// request itself. The cluster causes all others, some of them with a 4xx status:
// a closed or blocked index, an expired role, no shards left.
func asUnavailable(err error) error {
	var response *responseError
	switch {
	case err == nil, audit.IsUnavailable(err), errors.Is(err, context.Canceled), errors.Is(err, errLargeResponse):
		return err
	case errors.As(err, &response) && response.has(requestErrorKinds()...):
		return err
	}
	return &audit.UnavailableError{Err: err}
}

// complexityError turns OpenSearch's refusal of a complex query into a
// *audit.ValidationError.
func complexityError(err error) error {
	var response *responseError
	if errors.As(err, &response) && response.has(complexityKinds()...) {
		return audit.Invalid("?q", "too_complex", "must have fewer conditions, and at least a few letters before a *")
	}
	return err
}

// unexpectedResponse says that a response has another form than OpenSearch's,
// for example a proxy's.
func unexpectedResponse(err error) error {
	return &audit.UnavailableError{Err: fmt.Errorf("OpenSearch's answer is not what was asked for: %w", err)}
}
