/** Returns a function that acts at once, and then at most once a pause; the last call is never lost. */
export function throttled(act: () => void, later: (run: () => void) => void): () => void {
  let isPaused = false;
  let isWanted = false;
  const call = () => {
    if (isPaused) {
      isWanted = true;
      return;
    }
    isPaused = true;
    act();
    later(() => {
      isPaused = false;
      if (!isWanted) return;
      isWanted = false;
      call();
    });
  };
  return call;
}
