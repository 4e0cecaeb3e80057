package runtimehost

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

const apiPath = "/2018-06-01/runtime"

// api is the Lambda Runtime API, see
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
func (e *environment) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+apiPath+"/invocation/next", e.serveNext)
	mux.HandleFunc("POST "+apiPath+"/invocation/{id}/response", e.receiveResponse)
	mux.HandleFunc("POST "+apiPath+"/invocation/{id}/error", e.receiveError)
	mux.HandleFunc("POST "+apiPath+"/init/error", e.receiveInitError)
	return mux
}

// serveNext waits for an event for the function and sends it.
func (e *environment) serveNext(w http.ResponseWriter, r *http.Request) {
	if e.busy() {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "the previous invocation has not been answered")
		return
	}
	select {
	case inv := <-e.next:
		e.mu.Lock()
		e.current = inv
		e.mu.Unlock()
		e.writeEvent(w, inv)
	case <-r.Context().Done(): // the process is gone
	}
}

func (e *environment) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current != nil
}

func (e *environment) writeEvent(w http.ResponseWriter, inv *invocation) {
	now := time.Now()
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	header.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(now.Add(e.function.Timeout).UnixMilli(), 10))
	header.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:"+region+":"+account+":function:"+e.function.Name)
	header.Set("Lambda-Runtime-Trace-Id", inv.trace.Header())
	_, _ = w.Write(inv.event) // if the process does not read it, it never answers and times out
}

func (e *environment) receiveResponse(w http.ResponseWriter, r *http.Request) {
	inv, ok := e.answered(w, r.PathValue("id"))
	if !ok {
		return
	}
	answer, err := readBody(r)
	if errors.Is(err, errBodyTooLarge) {
		failure := failuref(TypeTooLarge, "the answer exceeds the %d bytes that Lambda carries", MaxPayload)
		inv.done <- outcome{err: failure}
		refuse(w, http.StatusRequestEntityTooLarge, failure.Type, failure.Message)
		return
	}
	if err != nil {
		return // the process died in the middle of its answer
	}
	inv.done <- outcome{answer: answer}
	accept(w)
}

func (e *environment) receiveError(w http.ResponseWriter, r *http.Request) {
	inv, ok := e.answered(w, r.PathValue("id"))
	if !ok {
		return
	}
	body, err := readBody(r)
	if err != nil && !errors.Is(err, errBodyTooLarge) {
		return
	}
	inv.done <- outcome{err: reported(body, r.Header.Get("Lambda-Runtime-Function-Error-Type"))}
	accept(w)
}

func (e *environment) receiveInitError(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil && !errors.Is(err, errBodyTooLarge) {
		return
	}
	e.mu.Lock()
	e.initError = reported(body, r.Header.Get("Lambda-Runtime-Function-Error-Type"))
	e.mu.Unlock()
	accept(w)
}

// answered ends the current invocation if it has this id.
func (e *environment) answered(w http.ResponseWriter, id string) (*invocation, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil || e.current.id != id {
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "no invocation with this id waits for an answer")
		return nil, false
	}
	inv := e.current
	e.current = nil
	return inv, true
}

var errBodyTooLarge = errors.New("the body is too large")

// readBody returns the body up to MaxPayload.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxPayload+1))
	if err != nil {
		return nil, err
	}
	if len(body) > MaxPayload {
		return nil, errBodyTooLarge
	}
	return body, nil
}

func accept(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`+"\n") // the outcome is known already
}

func refuse(w http.ResponseWriter, status int, errorType, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The response only explains the failure, so an error of writing it changes nothing.
	_ = json.NewEncoder(w).Encode(map[string]string{"errorType": errorType, "errorMessage": message})
}
