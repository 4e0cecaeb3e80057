package opensearchindex

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

// httpRequest is one request to OpenSearch. Its path consists of validated names.
type httpRequest struct {
	method string
	path   string
	query  url.Values
	body   []byte
	// maxResponse limits the body of the response, in bytes. A larger one is an
	// errLargeResponse. 0: no limit.
	maxResponse int64
}

// send sends the request once and returns the body of the response. A response
// without a 2xx status is a *responseError.
func (x *Index) send(ctx context.Context, r httpRequest) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, r.method, r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	request.URL.RawQuery = r.query.Encode()
	if len(r.body) > 0 {
		request.Header.Set("Content-Type", "application/json") // valid for bulk requests too
	} else {
		request.Body = nil
	}
	client, err := x.client()
	if err != nil {
		return nil, err
	}
	response, err := client.Stream(request)
	if response != nil {
		defer func() { _ = response.Body.Close() }() // the body has been read
	}
	if err != nil {
		return nil, err
	}
	source := io.Reader(response.Body)
	if r.maxResponse > 0 {
		source = io.LimitReader(source, r.maxResponse+1)
	}
	body, err := io.ReadAll(source)
	if err != nil {
		return nil, err
	}
	if r.maxResponse > 0 && int64(len(body)) > r.maxResponse {
		return nil, errLargeResponse
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, newResponseError(response.StatusCode, body)
	}
	return body, nil
}

// sendWithin sends the request once. It returns errTimeout after the timeout,
// while ctx itself is still valid.
func (x *Index) sendWithin(ctx context.Context, timeout time.Duration, r httpRequest) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := x.send(bounded, r)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, errTimeout
	}
	return body, err
}

// readBudget is how long a read is retried. It is short, because another store
// may be able to answer.
const readBudget = time.Second

// sendRead sends a request and retries it for readBudget. ctx bounds each attempt.
func (x *Index) sendRead(ctx context.Context, r httpRequest) ([]byte, error) {
	return retry(ctx, readBudget, func() ([]byte, error) { return x.send(ctx, r) })
}

// sendWrite sends a request that writes, or that a write needs. It retries for
// the write budget, and bounds each attempt by the write timeout.
func (x *Index) sendWrite(ctx context.Context, r httpRequest) ([]byte, error) {
	return retry(ctx, x.config.WriteBudget, func() ([]byte, error) { return x.sendWithin(ctx, x.config.Timeouts.Write, r) })
}

// retry calls send until it succeeds, fails for good, or the budget is used up.
func retry(ctx context.Context, budget time.Duration, send func() ([]byte, error)) ([]byte, error) {
	delays := newRetries(budget)
	for {
		body, err := send()
		if err == nil || !isTemporary(err) || !delays.wait(ctx) {
			return body, asUnavailable(err)
		}
	}
}

// retries has the delays between the attempts of one operation.
type retries struct {
	deadline time.Time
	failures int
}

// The jitter spreads writers that the cluster rejected at the same time.
var retryPolicy = backoff.Policy{First: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: backoff.EqualJitter}

func newRetries(budget time.Duration) *retries { return &retries{deadline: time.Now().Add(budget)} }

// wait waits for the next delay. It returns false at once if the wait would pass the
// deadline, and false if ctx ends.
func (r *retries) wait(ctx context.Context) bool {
	r.failures++
	delay := retryPolicy.Delay(r.failures)
	return !time.Now().Add(delay).After(r.deadline) && backoff.Sleep(ctx, delay) == nil
}
