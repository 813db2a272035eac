// The direct way of a call, with this module's host.
#include "../direct.inl"
