//go:build race

package virtiotest

const raceDetector = 1 // built with the race detector
