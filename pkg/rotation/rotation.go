// Package rotation replaces the key of cursors and tickets in the steps of Secrets Manager.
//
// A secret has a ring of keys, see cursor.NextRing. Every key of a new ring but one is in the
// current ring. So a process that has not read the new ring yet verifies what others sign with it.
package rotation

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

// Request asks for one step of a rotation. Each step can be repeated.
type Request struct {
	Step    string // one of the steps below
	Version string // the id of the version that the rotation makes
}

// The steps, in their order.
const (
	StepCreate = "createSecret" // store the new version
	StepSet    = "setSecret"    // tell it to the service that the secret opens: there is none here
	StepTest   = "testSecret"   // check that the new version works
	StepFinish = "finishSecret" // make it the current one
)

// The stages of a version.
const (
	Current = "AWSCURRENT" // what processes read
	Pending = "AWSPENDING" // what the rotation under way has made
)

// Versions are the versions of one secret.
type Versions interface {
	// Stages returns the stages of each version by its id.
	Stages(ctx context.Context) (map[string][]string, error)
	// Value returns the value of a version. It returns audit.ErrNotFound if it has none.
	Value(ctx context.Context, version string) (string, error)
	// Put stores the value of a version and gives it the stage Pending.
	Put(ctx context.Context, version, value string) error
	// Promote moves the stage Current from one version to another.
	Promote(ctx context.Context, from, to string) error
}

// Keys rotates a secret with a ring of keys.
type Keys struct {
	Versions Versions
	Random   func([]byte) // fills it with random bytes
}

// errNoStep is the error of a request for an unknown step.
var errNoStep = errors.New("the step is none of a rotation's")

// Rotate does one step. An error changes nothing, and Secrets Manager asks again. Errors have no key.
func (k *Keys) Rotate(ctx context.Context, r Request) error {
	step, known := map[string]func(context.Context, string, string) error{
		StepCreate: k.create, StepSet: nothing, StepTest: k.test, StepFinish: k.finish,
	}[r.Step]
	if !known || r.Version == "" {
		return errNoStep
	}
	stages, err := k.Versions.Stages(ctx)
	if err != nil {
		return fmt.Errorf("%s: stages: %w", r.Step, err)
	}
	current := versionWith(stages, Current)
	switch current {
	case r.Version:
		return nil // finished before
	case "":
		return fmt.Errorf("%s: the secret has no current version", r.Step)
	}
	if err := step(ctx, current, r.Version); err != nil {
		return fmt.Errorf("%s: %w", r.Step, err)
	}
	return nil
}

func nothing(context.Context, string, string) error { return nil }

func versionWith(stages map[string][]string, stage string) string {
	for version, of := range stages {
		if slices.Contains(of, stage) {
			return version
		}
	}
	return ""
}

// create stores a ring with a new key, unless it did before.
func (k *Keys) create(ctx context.Context, current, version string) error {
	_, err := k.Versions.Value(ctx, version)
	if !errors.Is(err, audit.ErrNotFound) {
		return err
	}
	keys, err := k.ring(ctx, current)
	if err != nil {
		return err
	}
	random := make([]byte, cursor.MinKeyBytes)
	k.Random(random)
	next := cursor.NextRing(keys, []byte(hex.EncodeToString(random)))
	return k.Versions.Put(ctx, version, string(bytes.Join(next, []byte("\n"))))
}

// test checks that processes with the current ring and processes with the new one take the
// cursors of each other.
func (k *Keys) test(ctx context.Context, current, version string) error {
	before, err := k.ring(ctx, current)
	if err != nil {
		return err
	}
	after, err := k.ring(ctx, version)
	if err != nil {
		return err
	}
	for _, pair := range [][2][][]byte{{before, after}, {after, before}} {
		signs := cursor.NewRotatingSigner(func() [][]byte { return pair[0] })
		verifies := cursor.NewRotatingSigner(func() [][]byte { return pair[1] })
		const list = "rotation"
		if _, err := verifies.ParseRecent(list, signs.Sign(list, nil)); err != nil {
			return errors.New("the new keys and the current ones do not fit together")
		}
	}
	return nil
}

func (k *Keys) finish(ctx context.Context, current, version string) error {
	if _, err := k.ring(ctx, version); err != nil {
		return err
	}
	return k.Versions.Promote(ctx, current, version)
}

func (k *Keys) ring(ctx context.Context, version string) ([][]byte, error) {
	value, err := k.Versions.Value(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("version %s: %w", version, err)
	}
	keys, err := cursor.ParseKeys([]byte(value))
	if err != nil {
		return nil, fmt.Errorf("version %s: %w", version, err)
	}
	return keys, nil
}
