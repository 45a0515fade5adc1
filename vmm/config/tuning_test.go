package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestTuningTravelsAsJSON reads the protocol's texts, and writes what it has read.
func TestTuningTravelsAsJSON(t *testing.T) {
	const text = `{"device":"net0","affinity":"2-3","nice":"5","sched":"fifo:10","busy_poll":"50ms","count":"per-queue"}`
	var got Tuning
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Device != "net0" || got.Affinity.String() != "2-3" || *got.Nice != 5 || got.Sched != "fifo:10" || got.BusyPoll.Duration != 50*time.Millisecond || got.Count != CountPerQueue {
		t.Errorf("got %+v", got)
	}
	if again, err := json.Marshal(got); err != nil || string(again) != text {
		t.Errorf("written as %s, %v", again, err)
	}
	if none, err := json.Marshal(Tuning{}); err != nil || string(none) != "{}" {
		t.Errorf("nothing is written as %s, %v", none, err)
	}
}

func TestTuningThatCannotBe(t *testing.T) {
	for text, want := range map[string]string{
		`{"nice":"20"}`:         "nice 20 is out of range: want -20 to 19",
		`{"nice":"-21"}`:        "nice -21 is out of range: want -20 to 19",
		`{"sched":"deadline"}`:  `"deadline" is not a scheduling policy`,
		`{"sched":"fifo:100"}`:  "requires a priority from 1 to 99",
		`{"busy_poll":"-1ns"}`:  "is negative",
		`{"busy_poll":"1.5us"}`: "is not a whole number of microseconds",
		`{"busy_poll":"1m"}`:    "is not a whole number of microseconds up to 1s",
		`{"count":"0"}`:         "0 is out of range: want 1 to 64",
		`{"affinity":"x"}`:      "is not a CPU number",
	} {
		var got Tuning
		err := json.Unmarshal([]byte(text), &got)
		if err == nil {
			err = got.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
