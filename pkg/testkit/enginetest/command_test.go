package enginetest_test

import (
	"os/exec"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func TestRunWithWhatTheEnvironmentNames(t *testing.T) {
	t.Setenv("OPENSEARCH_URL", "http://127.0.0.1:1")
	command := exec.CommandContext(t.Context(), "sh", "-c", `test "$OPENSEARCH_URL" = http://127.0.0.1:1`)
	if err := enginetest.RunWith(t.Context(), []string{"opensearch"}, command); err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

func TestRunWithAFailingCommand(t *testing.T) {
	if err := enginetest.RunWith(t.Context(), nil, exec.CommandContext(t.Context(), "false")); err == nil {
		t.Error("got no error for a command that fails")
	}
}

func TestRunWithAnEngineThatNoVariableNames(t *testing.T) {
	for _, name := range []string{"ministack", "nothing"} {
		if err := enginetest.RunWith(t.Context(), []string{name}, exec.CommandContext(t.Context(), "true")); err == nil {
			t.Errorf("got no error for the engine %s", name)
		}
	}
}
