package activity_test

import (
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
)

func TestALookIsOldAfterFiveMinutes(t *testing.T) {
	look := activity.NewLook(start)
	for age, want := range map[time.Duration]bool{
		0: false, 5 * time.Minute: false, 5*time.Minute + time.Millisecond: true, time.Hour: true,
		-5 * time.Minute: false, -5*time.Minute - time.Millisecond: true, // the clock was set back
	} {
		if got := look.IsOld(start.Add(age)); got != want {
			t.Errorf("after %s the look is old: %t, want %t", age, got, want)
		}
	}
	if !(activity.Look{}).IsOld(start) {
		t.Error("without a look nothing is old, want that nothing is removed")
	}
}
