//go:build !race

package virtiotest

const raceDetector = 0
