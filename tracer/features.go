package tracer

// A Feature is something that the kernel has, and that finwait can use.
type Feature struct {
	Name  string
	Since string // the first kernel that has it
	State FeatureState
	Note  string // what finwait uses it for, or why it is missing
}

// FeatureState says whether a feature is there.
type FeatureState uint8

// The states of a feature. It is FeatureUnclear if its probe failed, but not because the
// feature is missing.
const (
	FeatureMissing FeatureState = iota
	FeatureInUse
	FeatureAvailable // there, but something better is in use, or nothing needs it yet
	FeatureUnclear
)
