package httpapi

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

const noExport = "The tenant has no export with this id that the credential may see."

// maxExportBody is how large the parameters of an export can be, in bytes. They are those of a search.
const maxExportBody = maxSearchBody

// paramAsync asks for a job, however small the export is.
const paramAsync = "async"

// ExportLogs answers GET /logs/export: the list as a file, or a job that writes the file. A HEAD starts
// no job.
func ExportLogs(gate *Gate, s *export.Service, exports *export.Jobs) http.Handler {
	return gate.endpoint("export-logs", func(req *request) (*response, error) {
		async, err := req.async()
		if err != nil {
			return nil, err
		}
		if !async {
			file, err := s.AtOnce(req.Context(), req.principal, req.tenant, req.scope, req.params)
			if tooLarge := (*export.TooLargeError)(nil); !errors.As(err, &tooLarge) || req.Method == http.MethodHead {
				return fileResponse(file, explainHold(err))
			}
		}
		started, err := exports.Create(req.Context(), req.principal, req.tenant, req.scope, req.params)
		return exportStarted(&started, err)
	})
}

// async takes the parameter of this name.
func (req *request) async() (bool, error) {
	async, err := req.takeFlag(paramAsync)
	if async && req.Method == http.MethodHead {
		return false, audit.Invalid("?"+paramAsync, "not_allowed", "must be left out of a HEAD request, which starts no job")
	}
	return async, err
}

func fileResponse(file export.File, err error) (*response, error) {
	if err != nil {
		return nil, err
	}
	answer := &response{status: http.StatusOK, contentType: file.MediaType, body: file.Content, packed: file.Packed}
	answer.set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": file.Name}))
	if file.Degraded {
		answer.set(DegradedHeader, "search")
	}
	if !file.SearchableFrom.IsZero() {
		answer.set(SearchableFromHeader, file.SearchableFrom.UTC().Format(timeFormat))
	}
	return answer, nil
}

// CreateExport answers POST /logs/exports: a job, with the parameters of GET /logs/export as a JSON
// object.
func CreateExport(gate *Gate, exports *export.Jobs) http.Handler {
	in := &bodies{media: []string{MediaJSON}, wire: maxExportBody, unpacked: maxExportBody}
	return gate.endpoint("create-export", func(req *request) (*response, error) {
		body, err := readDocument(in, req)
		if err != nil {
			return nil, err
		}
		reveal, err := req.revealByBody(body)
		if err != nil {
			return nil, err
		}
		started, err := exports.CreateBy(req.Context(), req.principal, req.tenant, req.scope, body.members, reveal.reason, paramReveal, paramReason)
		return exportStarted(&started, err)
	})
}

func exportStarted(e *export.Export, err error) (*response, error) {
	if err != nil {
		err = explain(err, export.ErrTooManyOpen, ProblemConflict, fmt.Sprintf("The tenant has %d unfinished exports. Cancel one, or wait until one has finished.", export.MaxOpen))
		return nil, explain(explainHold(err), jobs.ErrTooManyQueued, ProblemConflict, tooManyQueued)
	}
	return jobStarted(&e.Job), nil
}

// explainHold explains why there is no export by a legal hold.
func explainHold(err error) error {
	err = explain(err, export.ErrNoHold, ProblemNotFound, noHold)
	return explain(err, hold.ErrReleased, ProblemConflict, "The legal hold is released: it keeps nothing any more. What has not expired is in an export without hold.")
}

// ListExports answers GET /logs/exports: one page of exports, the newest first.
func ListExports(gate *Gate, exports *export.Jobs, cursors *cursor.Signer) http.Handler {
	return gate.endpoint("list-exports", func(req *request) (*response, error) {
		limit, err := req.limit()
		if err != nil {
			return nil, err
		}
		read := byCreation(func(after *position, limit int) ([]export.Export, bool, error) {
			return exports.List(req.Context(), req.principal, req.tenant.ID, (*jobs.Position)(after), limit)
		})
		return pageOf(req, cursors, "exports of "+string(req.tenant.ID), limit, read, func(w *writer, e *export.Export) string {
			appendExport(w, e, "")
			return positionText(e.CreatedAt, e.ID)
		})
	})
}

// GetExport answers GET /logs/exports/{id}: the state of an export, with a new URL of its file.
func GetExport(gate *Gate, exports *export.Jobs) http.Handler {
	return gate.endpoint("get-export", func(req *request) (*response, error) {
		e, err := exports.Export(req.Context(), req.principal, req.tenant, req.PathValue("id"))
		if err != nil {
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noExport)
		}
		w := writer{b: make([]byte, 0, 1024)}
		appendExport(&w, &e, req.absolute(e.URL))
		return jsonResponse(http.StatusOK, &w).set("Cache-Control", "no-store"), nil
	})
}

// absolute returns a URL with the host of the request if it has none. The service that runs as one
// process serves the files itself.
func (req *request) absolute(address string) string {
	if !strings.HasPrefix(address, "/") {
		return address
	}
	scheme := "http"
	if req.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + req.Host + address
}

func appendExport(w *writer, e *export.Export, address string) {
	w.open('{')
	appendJobMembers(w, &e.Job)
	if e.SHA256 != "" {
		w.integer("bytes", e.Bytes)
		w.word("sha256", e.SHA256)
	}
	if !e.FileExpiresAt.IsZero() {
		w.time("file_expires_at", e.FileExpiresAt)
		w.boolean("expired", e.Expired)
	}
	if e.Reveals {
		w.boolean("reveal", true)
	}
	if e.Removed {
		w.boolean("removed_by_erasure", true)
	}
	if len(e.Lacking) > 0 {
		w.name("url_requires")
		w.open('[')
		for _, permission := range e.Lacking {
			w.quoted(string(permission))
		}
		w.close(']')
	}
	w.optionalTime("searchable_from", e.SearchableFrom)
	if address != "" {
		w.text("url", address)
		w.time("url_expires_at", e.URLExpiresAt)
	}
	w.close('}')
}
