package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Export is an export that is a job.
type Export struct {
	Job
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the file, in hexadecimal digits
	URL    string `json:"url"`    // "" if there is no file, or it is not for this credential
	// Expired says that the file was removed because its time was over, and RemovedByErasure that an
	// erasure removed it.
	Expired          bool `json:"expired"`
	RemovedByErasure bool `json:"removed_by_erasure"`
	// URLRequires are the permissions that this credential lacks to get the URL.
	URLRequires []string `json:"url_requires"`
}

// Export returns the file of GET /logs/export. If it is not answered at once, Export returns the job
// that writes it.
func (c *Client) Export(ctx context.Context, params url.Values) (file []byte, job *Export, err error) {
	var status int
	body, err := c.do(ctx, apiRequest{method: http.MethodGet, path: "logs/export", query: params, status: &status})
	if err != nil || status != http.StatusAccepted {
		return body, nil, err
	}
	job = &Export{}
	return nil, job, decode("export", body, job)
}

// CreateExport returns the job of POST /logs/exports.
func (c *Client) CreateExport(ctx context.Context, members map[string]any) (Export, error) {
	var e Export
	text, err := json.Marshal(members)
	if err != nil {
		return e, fmt.Errorf("encode the parameters of an export: %w", err)
	}
	body, err := c.do(ctx, apiRequest{method: http.MethodPost, path: "logs/exports", body: text, header: http.Header{"Content-Type": {"application/json"}}})
	if err != nil {
		return e, err
	}
	return e, decode("export", body, &e)
}

// ExportJob returns GET /logs/exports/{id}, with a new URL if there is a file.
func (c *Client) ExportJob(ctx context.Context, id string) (Export, error) {
	body, err := c.do(ctx, apiRequest{method: http.MethodGet, path: "logs/exports/" + url.PathEscape(id)})
	if err != nil {
		return Export{}, err
	}
	var e Export
	return e, decode("export", body, &e)
}

// Download opens the file of an export from a byte on. It sends no credential: the URL has one. The
// caller must close the reader.
func (c *Client) Download(ctx context.Context, address string, from int64) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("the URL of the file: %w", err)
	}
	want := http.StatusOK
	if from > 0 {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		want = http.StatusPartialContent
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("download the file: %w", withoutURL(err))
	}
	if response.StatusCode != want {
		_ = response.Body.Close() // it is an error page; nothing to learn from it
		return nil, fmt.Errorf("download the file: status %d, want %d", response.StatusCode, want)
	}
	return response.Body, nil
}

// withoutURL returns the cause of an error of net/http, which names the URL: whoever has that can
// download the file.
func withoutURL(err error) error {
	if failed, is := err.(*url.Error); is { //nolint:errorlint // net/http returns it unwrapped
		return failed.Err
	}
	return err
}
